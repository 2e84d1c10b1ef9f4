"""Short trainings: metrics of whole examples in every precision, scaled losses, and optimizers with any state."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from bench.jobs.plan import make_plan
from bench.training.components import Task
from bench.training.interrupt import StopSignal
from bench.training.record import Record
from bench.training.train import train
from tests.fuzzing.configurations import compose_mapping
from tests.fuzzing.hostile import usually
from tests.fuzzing.properties import Property

SMALL = ["task=mlp", "task.width=4", "task.batch_size=8", "task.steps=3", "task.eval_every=2"]
SEEDS = ["+sweep.axes.seed=[0,1]"]
PRECISIONS = ["float32", "bfloat16", "float64"]
LION_REST = ["optimizer.rest._target_=optimizers.lion.Lion", "~optimizer.rest.eps", "optimizer.rest.lr=1e-3"]
SCALE_FREE = {  # bit for bit, and down to which exponent of the loss scale
    "lion": ([], -60),
    "signum": ([], -60),
    "madam": (["optimizer.scale_log2=40"], -20),
    **dict.fromkeys(("muon", "adamuon", "normuon", "namo"), (LION_REST, -60)),
}


def trained(*overrides: str) -> tuple[list[Record], Task]:
    """What comes of the trials of a small configuration, trained together, and their task."""
    plan = make_plan(compose_mapping([*SMALL, *overrides]))
    task = plan.tasks.get(plan.trials[0].config.task, "cpu")
    records = train([trial.config for trial in plan.trials], task, [], StopSignal())
    assert all(record.status in ("completed", "diverged") for record in records), records[0].message
    return records, task


def whole_examples(case: tuple[str, str, list[str], int]) -> str:
    """An accuracy is a whole number of examples over their number."""
    optimizer, precision, sweep, batch_size = case
    records, task = trained(f"optimizer={optimizer}", f"precision={precision}", f"task.batch_size={batch_size}", *sweep)
    sizes = {"val_accuracy": task.num_eval, "full_val_accuracy": task.num_val, "full_test_accuracy": task.num_test}
    for record in records:
        for row in record.rows:
            for name, size in sizes.items():
                count = row.get(name, 0.0) * size
                assert math.isclose(count, round(count), abs_tol=1e-6), f"{name} is {count} of {size} examples"
    return precision


def scale_free(case: tuple[str, str, list[str], int]) -> str:
    """Rules that do not see the size of gradients train to the same bits under a loss times a power of two."""
    name, precision, rest, exponent = case
    own, lowest = SCALE_FREE[name]
    overrides = [f"optimizer={name}", *own, f"precision={precision}", *rest]
    records, _ = trained(*overrides)
    scaled, _ = trained(*overrides, f"task.loss_scale={2.0 ** max(exponent, lowest)!r}")
    for plain, other in zip(records, scaled, strict=True):
        for row, twin in zip(plain.rows, other.rows, strict=True):
            assert _losses(row) == _losses(twin), f"step {row['step']}"
    return name


def _losses(row: Mapping[str, float]) -> dict[str, str]:
    return {name: repr(value) for name, value in row.items() if not name.endswith("_seconds")}


class Strange(torch.optim.Optimizer):
    """Sign descent that keeps whatever it is told to, under whatever names."""

    state_of: Mapping[str, Any] = {}
    group: Mapping[str, Any] = {}

    def __init__(self, params: Iterable[Tensor], lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, **self.group})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for number, param in enumerate(group["params"]):
                if param.grad is not None:
                    param.sub_(group["lr"] * param.grad.sign())
                    self.state[param] |= {
                        name: LAYOUTS[layout](param) for name, layout in self.state_of.items() if layout or number
                    }


LAYOUTS: list[Any] = [
    lambda param: torch.ones_like(param),  # as the next, but the first parameter has none
    lambda param: torch.ones_like(param),
    lambda param: [torch.ones_like(param)],
    lambda param: torch.ones(3),
    lambda param: torch.ones_like(param, dtype=torch.int64),
    lambda param: torch.ones_like(param, dtype=torch.bfloat16),
    lambda param: torch.full_like(param, torch.nan),
    lambda param: torch.tensor(2.0),
    lambda param: torch.tensor(torch.nan),
    lambda param: {"of": torch.ones_like(param)},
    lambda param: torch.ones(0),
    lambda param: None,
    lambda param: "text",
    lambda param: True,
    lambda param: 3,
    lambda param: math.inf,
    lambda param: math.nan,
    lambda param: torch.ones_like(param).to_sparse(),
    lambda param: 1j,
]


def diagnosed(case: tuple[Mapping[str, int], Mapping[str, Any]]) -> str:
    """Diagnostics of a foreign optimizer: the update's size always, shares of eps or none of them."""
    Strange.state_of, Strange.group = case
    target = f"optimizer._target_={Strange.__module__}.{Strange.__name__}"
    (record,), _ = trained("optimizer=custom", target, "+optimizer.lr=0.01", "diagnostics=true")
    found = {name: value for name, value in record.rows[-1].items() if name.startswith("diag/")}
    sizes = {name: value for name, value in found.items() if name.endswith("update_rms")}
    assert set(sizes) == {f"diag/{label}/update_rms" for label in ("matrix", "head", "vector")}
    assert all(0 < value < 2 for value in sizes.values()), sizes
    assert all(0 <= value <= 1 for name, value in found.items() if name not in sizes), found
    return "with shares of eps" if len(found) > len(sizes) else "without"


layouts = st.integers(0, len(LAYOUTS) - 1)
modes = st.sampled_from([[], SEEDS])
precisions = st.sampled_from(PRECISIONS)
strange_numbers = st.sampled_from(
    [0.9, 0.0, 1, 1.0, -1.0, math.nan, math.inf, None, "x", True, [0.9], (0.9, 0.99), (0.9, None), torch.tensor(0.9),
     torch.tensor([0.9, 0.99]), (0.9, torch.tensor([0.1, 0.2])), {"a": 1}]
)  # fmt: skip
states = st.fixed_dictionaries({"exp_avg_sq": usually(st.just(1), layouts), "step": usually(st.just(14), layouts)})
strange_groups = st.fixed_dictionaries(
    {"betas": usually(st.just((0.9, 0.99)), strange_numbers), "eps": usually(st.just(0.5), strange_numbers)},
    optional={"adam_betas": strange_numbers, "adam_eps": strange_numbers},
)
PROPERTIES = {
    "training: whole examples": Property(
        st.tuples(st.sampled_from(["adamw", "sgd", "muon"]), precisions, modes, st.integers(1, 40)), whole_examples, 1
    ),
    "training: loss scales": Property(
        st.tuples(st.sampled_from(list(SCALE_FREE)), precisions, modes, st.integers(-60, 20)), scale_free, 1
    ),
    "training: foreign states": Property(st.tuples(states, strange_groups), diagnosed, 2),
}
