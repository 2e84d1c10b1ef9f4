"""What would fail or be slow on a GPU, found without one: see `tests.device.simulate`."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bench.config.folders import find_conf_dir
from tests.configured import OURS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
FEW = ["task.steps=2", "task.eval_every=1"]
PACK = ["+sweep.axes.seed=[0,1,2]"]
LARGE_PACK = ["+sweep.axes.seed=[0,1,2,3,4,5]"]
ASKED = ["diagnostics=true", "clip_norm=1.0"]
SMALLER = {
    "mlp": ["task.width=16"],
    "gpt_nano": ["task.width=16", "task.context=8", "task.batch_size=2"],
}
CASES = {  # with the most kernels that a step may launch
    "mlp adam alone": (["mlp", "adam"], 50),
    "mlp adam packed": (["mlp", "adam", *PACK], 70),
    "mlp adam packed twice as large": (["mlp", "adam", *LARGE_PACK], 70),
    "mlp adamuon alone, everything asked for": (["mlp", "adamuon", *ASKED], 165),
    "mlp adamuon packed, everything asked for": (["mlp", "adamuon", *PACK, *ASKED], 250),
    "mlp sgd alone, everything asked for": (["mlp", "sgd", *ASKED], 75),
    "gpt_nano adam packed": (["gpt_nano", "adam", *PACK], 210),
    "gpt_nano lion packed, everything asked for": (["gpt_nano", "lion", *PACK, *ASKED], 250),
    "quadratic madam packed, everything asked for": (["quadratic", "madam", *PACK, *ASKED], 95),
    "rosenbrock adamw packed in float64": (["rosenbrock", "adamw", *PACK, "precision=float64"], 50),
}
CORE = OmegaConf.load(find_conf_dir() / "suite" / "core.yaml").hydra.sweeper.params.task.split(",")
MODES = {"alone": [], "packed": PACK, "alone, everything": ASKED, "packed, everything": [*PACK, *ASKED]}


def observe(cases: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """What these cases did, all of them in one process."""
    asked = [
        [f"task={task}", *SMALLER.get(task, []), f"optimizer={name}", *FEW, *rest]
        for task, name, *rest in cases.values()
    ]
    command = [sys.executable, "-m", "tests.device.simulate", json.dumps(asked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "no simulated device" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return dict(zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True))


@cache
def observed() -> dict[str, dict[str, Any]]:
    return observe({case: arguments for case, (arguments, _) in CASES.items()})


def assert_on_one_device(found: dict[str, Any]) -> None:
    """It steps, evaluates, is saved, restored and thinned out; an operation on tensors of two devices would raise."""
    assert "error" not in found, found["error"]
    assert "waits" not in found["step"], found["step"]["places"]
    assert not found["step"].keys() & {"copies", "blocking copies"}, found["step"]["places"]


@pytest.mark.parametrize("case", CASES)
def test_a_trial_lives_on_one_device_and_no_step_waits_for_it(case: str) -> None:
    assert_on_one_device(observed()[case])


@pytest.mark.parametrize("mode", MODES)
def test_every_core_task_lives_on_one_device(mode: str) -> None:
    """Each task in one of the modes, with another rule for each."""
    paired = zip(CORE, cycle(MODES), cycle(OURS[::2]), strict=False)
    for case, found in observe({name: [task, name, *MODES[at]] for task, at, name in paired if at == mode}).items():
        assert_on_one_device({**found, "case": case})


@pytest.mark.parametrize("case", CASES)
def test_a_block_of_steps_costs_one_copy_that_nobody_waits_for(case: str) -> None:
    assert observed()[case]["block"].get("copies") == 1
    assert "blocking copies" not in observed()[case]["block"]


@pytest.mark.parametrize("case", CASES)
def test_an_evaluation_waits_once_whatever_it_measures(case: str) -> None:
    assert observed()[case]["evaluation"]["waits"] == 1, observed()[case]["evaluation"]["places"]


@pytest.mark.parametrize("case", CASES)
def test_a_step_stays_within_its_budget_of_launches(case: str) -> None:
    assert observed()[case]["step"]["launches"] <= CASES[case][1]


def test_launches_do_not_depend_on_the_size_of_the_pack() -> None:
    small, large = (observed()[f"mlp adam packed{size}"] for size in ("", " twice as large"))
    assert small["step"] == large["step"]
    assert small["evaluation"] == large["evaluation"]
