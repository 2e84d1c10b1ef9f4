"""Diagnostics take anyone's optimizer: what it does not keep is left out, and nothing else is."""

import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from bench.config.optimizer import parse_optimizer
from bench.jobs.plan import Plan
from bench.training.interrupt import StopSignal
from bench.training.probes import diagnose
from bench.training.record import Record
from bench.training.routing import RoutedOptimizer
from bench.training.train import train
from tests.configured import NAMES, configured, one_of_each_kind_first

MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
WITH_SECOND_MOMENT = {"adam", "adamw", "ademamix", "sim_ademamix", "laprop", "qhadamw", "nadam", "radam", "soap"}
FEW = ["task.steps=4", "task.eval_every=2", "diagnostics=true"]


@pytest.fixture(autouse=True)
def without_compilation() -> Iterator[None]:
    with torch.compiler.set_stance("force_eager"):
        yield


def train_all(plan: Plan) -> list[Record]:
    config = plan.trials[0].config
    return train([trial.config for trial in plan.trials], plan.tasks.get(config.task, "cpu"), [], StopSignal())


def diagnostics(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.rows[-1].items() if name.startswith("diag/")}


@pytest.mark.parametrize("name", one_of_each_kind_first(NAMES))
def test_every_optimizer_has_its_update_rms_and_an_eps_share_where_it_has_a_second_moment(
    name: str, plan: MakePlan, small: Small
) -> None:
    if find_spec(configured(name).class_path.partition(".")[0]) is None:
        pytest.skip("an optional extra")
    (record,) = train_all(plan(*small("mlp"), *FEW, f"optimizer={name}", "schedule=constant"))
    assert record.status == "completed", record.message
    found = diagnostics(record)
    assert {key for key in found if key.endswith("update_rms")} == {
        f"diag/{label}/update_rms" for label in ("matrix", "head", "vector")
    }
    assert all(math.isfinite(value) and value >= 0 for value in found.values())
    assert ("diag/matrix/frac_below_eps" in found) or name not in WITH_SECOND_MOMENT
    assert "diag/matrix/frac_below_eps" not in found or name not in {"sgd", "lbfgs", "muon", "lion", "signum", "madam"}


@pytest.mark.parametrize("name", ["deepmd_adamuon", "adamw", "normuon"])
def test_a_pack_has_the_diagnostics_of_its_trials(name: str, plan: MakePlan, small: Small) -> None:
    overrides = [*small("mlp"), *FEW, f"optimizer={name}", "precision=float64", "schedule=constant"]
    packed = train_all(plan(*overrides, "+sweep.axes.seed=[0,1]"))
    (alone,) = train_all(plan(*overrides))
    assert diagnostics(packed[0]) == pytest.approx(diagnostics(alone), rel=1e-2)
    assert len(packed) == 2


def test_where_lr_is_zero_the_update_is_zero(plan: MakePlan, small: Small) -> None:
    overrides = [*small("mlp"), *FEW, "schedule=linear", "schedule.warmup_fraction=0"]
    for sweep in ([], ["+sweep.axes.seed=[0,1]"]):
        for record in train_all(plan(*overrides, "schedule.final_factor=0", *sweep)):
            assert record.rows[-1]["lr"] == 0
            found = diagnostics(record)
            assert not any(map(math.isnan, found.values()))
            assert found["diag/matrix/update_rms"] == 0


LAYOUTS = [
    {},
    {"exp_avg_sq": None},
    {"exp_avg_sq": [torch.ones(3)]},
    {"exp_avg_sq": torch.ones(2), "step": 3},
    {"exp_avg_sq": torch.ones(3, dtype=torch.int64), "step": 3},
    {"exp_avg_sq": torch.ones(3)},
    {"exp_avg_sq": torch.ones(3), "step": torch.tensor(0.0)},
    {"exp_avg_sq": torch.ones(3), "step": torch.ones(3)},
    {0: {"exp_avg_sq": torch.ones(3)}, "is_initialized": True},
]


@pytest.mark.parametrize("state", LAYOUTS, ids=str)
def test_a_foreign_layout_of_the_state_leaves_the_eps_shares_out(state: dict[object, object]) -> None:
    param = nn.Parameter(torch.zeros(3))
    config = parse_optimizer({"name": "sgd", "_target_": "torch.optim.SGD", "lr": 0.5})
    optimizer = RoutedOptimizer(config, {"w": param}, {"w": "vector"})
    own = optimizer.routes[0].optimizer
    own.param_groups[0] |= {"betas": (0.9, 0.99), "eps": 1e-8}
    own.state[param] = state
    found = diagnose(optimizer.probes({"w": "vector"}, {"w": torch.ones(3)}))
    assert {name: float(value) for name, value in found.items()} == {"diag/vector/update_rms": 2.0}


@pytest.mark.parametrize("betas", [None, (0.9,), 0.9, (0.9, None)])
def test_foreign_betas_leave_the_eps_shares_out(betas: object) -> None:
    param = nn.Parameter(torch.zeros(3))
    config = parse_optimizer({"name": "sgd", "_target_": "torch.optim.SGD", "lr": 0.5})
    optimizer = RoutedOptimizer(config, {"w": param}, {"w": "vector"})
    own = optimizer.routes[0].optimizer
    own.param_groups[0] |= {"betas": betas, "eps": (None, 1e-3) if betas is None else 1e-8}
    own.state[param] = {"exp_avg_sq": torch.ones(3), "step": 1}
    assert set(diagnose(optimizer.probes({"w": "vector"}, {"w": torch.ones(3)}))) == {"diag/vector/update_rms"}
