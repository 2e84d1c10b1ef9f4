"""Optimizers of other libraries, named by their import path only, are driven the way they mean it."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from bench.cli.compose import compose, resolve
from bench.config.folders import find_conf_dir
from bench.jobs.job import run_job
from tests.configured import NAMES, configured
from tests.marks import quick_for

FOREIGN = [name for name in NAMES if not configured(name).class_path.startswith("optimizers.")]
EXTRA = [name for name in FOREIGN if not configured(name).class_path.startswith("torch.")]


@pytest.fixture(autouse=True)
def without_compilation() -> Iterator[None]:
    """HeavyBall compiles its kernels at the first steps, for minutes on a CPU."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("name", quick_for(["nadam", "pytorch_optimizer_soap"], FOREIGN))
def test_foreign_optimizer_halves_the_loss_of_mlp_in_100_steps(name: str, tmp_path: Path) -> None:
    library = configured(name).class_path.partition(".")[0]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: the extra `integrations`")
    overrides = [f"optimizer={name}", "task=mlp", "task.steps=100", "tracker=none", f"results_dir={tmp_path}"]
    run_job(resolve(compose(overrides)))
    (file,) = tmp_path.rglob("run.json")
    summary = json.loads(file.read_text())["summary"]
    assert summary["final_val_loss"] < summary["initial_val_loss"] / 2


@pytest.mark.parametrize("name", EXTRA)
def test_first_line_of_a_foreign_optimizer_names_the_extra_that_it_needs(name: str) -> None:
    first = (find_conf_dir() / "optimizer" / f"{name}.yaml").read_text().splitlines()[0]
    assert "needs the extra [integrations]" in first


def test_extra_offers_six_optimizers_of_two_libraries() -> None:
    assert len(EXTRA) >= 6
    assert {configured(name).class_path.partition(".")[0] for name in EXTRA} == {"heavyball", "pytorch_optimizer"}
