"""What the measuring scripts share: the plan of a command line, and a table that is printed and kept."""

from collections.abc import Sequence
from pathlib import Path

from bench.cli.compose import compose, resolve
from bench.errors import count_of
from bench.jobs.plan import Plan, make_plan
from bench.runs.environment import describe_environment


def compose_plan(*overrides: str) -> Plan:
    """The checked plan of `python -m bench` with these overrides, untracked."""
    return make_plan(resolve(compose(["tracker=none", *overrides])))


def describe_machine(device: str) -> str:
    """The line above a table: what measured it, and when."""
    machine = describe_environment(device)
    return f"torch {machine.torch}, {machine.device_name}, {count_of(machine.num_threads, 'thread')}, {machine.time}"


def publish(lines: Sequence[str], out: Path | None) -> None:
    """Print a table and, where `out` is given, write it there."""
    text = "\n".join(lines)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
