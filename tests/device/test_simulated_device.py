"""What would fail or be slow on a GPU, found without one: see `tests.device.simulate`."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
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
    "poisson_pinn": ["task.num_layers=1"],
    "image_inr": ["task.num_layers=1"],
    "graph": ["task.num_layers=1"],
    "autoencoder": ["task.depth=1"],
    "mlp": ["task.width=16"],
    "vit": ["task.num_layers=1"],
    "gpt_nano": ["task.num_layers=1", "task.width=16", "task.context=8", "task.batch_size=2"],
}
CASES = {  # with the most kernels that a step may launch
    "mlp adam alone": (["mlp", "adam"], 50),
    "mlp adam packed": (["mlp", "adam", *PACK], 70),
    "mlp adam packed twice as large": (["mlp", "adam", *LARGE_PACK], 70),
    "mlp adamuon alone, everything asked for": (["mlp", "adamuon", *ASKED], 165),
    "mlp adamuon packed, everything asked for": (["mlp", "adamuon", *PACK, *ASKED], 250),
    "mlp sgd alone, everything asked for": (["mlp", "sgd", *ASKED], 75),
    "gpt_nano adam packed": (["gpt_nano", "adam", *PACK], 115),
    "gpt_nano lion packed, everything asked for": (["gpt_nano", "lion", *PACK, *ASKED], 138),
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


def faults(found: dict[str, Any]) -> Iterator[str]:
    """It steps, evaluates, is saved, restored and thinned out; an operation on tensors of two devices would raise."""
    if "error" in found:
        yield found["error"]
        return
    step, evaluation, block = (found[kind] for kind in ("step", "evaluation", "block"))
    if step.keys() & {"waits", "copies", "blocking copies"}:
        yield f"a step waits or copies: {step['places']}"
    if evaluation.get("waits") != 1:
        yield f"an evaluation waits {evaluation.get('waits', 0)} times, whatever it measures: {evaluation['places']}"
    if block.get("copies") != 1 or "blocking copies" in block:
        yield f"a block of steps costs other than one copy that nobody waits for: {block['places']}"


def test_trials_live_on_one_device_and_their_steps_neither_wait_nor_launch_too_much() -> None:
    """The cases above, and each core task with another rule, in one of the four modes."""
    asked = {case: arguments for case, (arguments, _) in CASES.items()}
    paired = zip(CORE, cycle(MODES), cycle(OURS[::2]), strict=False)
    asked |= {f"core: {task} {name} {mode}": [task, name, *MODES[mode]] for task, mode, name in paired}
    observed = observe(asked)
    found = {case: [*faults(one)] for case, one in observed.items()}
    assert not {case: lines for case, lines in found.items() if lines}
    launches = {case: observed[case]["step"]["launches"] for case in CASES}
    assert not {case: number for case, number in launches.items() if number > CASES[case][1]}
    small, large = (observed[f"mlp adam packed{size}"] for size in ("", " twice as large"))
    assert small["step"] == large["step"], "launches depend on the size of the pack"
    assert small["evaluation"] == large["evaluation"]
