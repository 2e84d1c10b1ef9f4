"""What the measuring scripts share: the plan of a command line, and a table that is printed and kept."""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench.cli.compose import find_conf_dir
from bench.jobs.plan import Plan, make_plan
from bench.runs.environment import describe_environment


def compose_plan(*overrides: str) -> Plan:
    """The checked plan of `python -m bench` with these overrides, untracked."""
    with initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
        mapping = OmegaConf.to_container(compose("config", ["tracker=none", *overrides]), resolve=True)
    assert isinstance(mapping, dict)
    return make_plan({str(key): value for key, value in mapping.items()})


def describe_machine(device: str) -> str:
    """The line above a table: what measured it, and when."""
    machine = describe_environment(device)
    return f"torch {machine.torch}, {machine.device_name}, {machine.num_threads} threads, {machine.time}"


def publish(lines: Sequence[str], out: Path | None) -> None:
    """Print a table and, where `out` is given, write it there."""
    text = "\n".join(lines)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
