"""A step compiled whole is the step: alone, in packs, with all that may stand around it, and after a restart."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import ConfigError
from bench.jobs import compiling
from bench.jobs.job import run_job
from bench.jobs.plan import Plan
from bench.training.clock import StepClock
from bench.training.ensemble import Ensemble
from bench.training.train import make_learner

MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
FACTORS = [1.0, 0.5, 0.1]
CLOCK = StepClock(torch.device("cpu"))
PACK = ["+sweep.axes.seed=[0,1,2]", "precision=float64"]
ASKED = ["clip_norm=0.5", "diagnostics=true", "task.loss_scale=0.25"]
CASES = {
    "mlp adamw": ["mlp", "optimizer=adamw", *ASKED],
    "mlp schedule_free_adamw": ["mlp", "optimizer=schedule_free_adamw"],
    "mlp prodigy": ["mlp", "optimizer=prodigy", *ASKED],
    "gpt_nano adamuon": ["gpt_nano", "optimizer=adamuon", *ASKED],
    "quadratic lamb": ["quadratic", "optimizer=lamb"],
}

SLOW = pytest.mark.slow  # it is traced for seconds


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """The traced step runs as it is: what is tested is the tracing."""
    with torch.compiler.set_stance("force_eager"):
        yield


def build(plan: Plan, compile: str) -> Any:
    configs = [trial.config.model_copy(update={"compile": compile}) for trial in plan.trials]
    return make_learner(plan.tasks.get(configs[0].task, "cpu"), configs, is_pack=len(configs) > 1)


def take(learner: Any, factors: list[float]) -> list[Tensor]:
    """Losses of some steps, and the weights after them."""
    losses = [learner.step(factor, CLOCK) for factor in factors]
    return [*losses, *(weight.clone() for weight in learner.weights.values())]


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-12) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", [pytest.param(case, marks=() if case == "mlp adamw" else SLOW) for case in CASES])
@pytest.mark.usefixtures("uncompiled")
def test_a_traced_step_is_the_step_also_restored_and_with_fewer_trials(case: str, plan: MakePlan, small: Small) -> None:
    task, *overrides = CASES[case]
    made = plan(*small(task), *overrides, *PACK)
    learners = [build(made, compile) for compile in ("none", "step")]
    assert_same(*(take(learner, FACTORS) for learner in learners))
    restored = build(made, "step")
    restored.restore(learners[0].state())
    learners.append(restored)
    expected, *found = (take(learner, [0.7, 0.2]) for learner in learners)
    for one in found:
        assert_same(one, expected)
    for learner in learners:
        learner.keep([0, 2])
    expected, *found = (take(learner, [0.7, 0.2]) for learner in learners)
    for one in found:
        assert_same(one, expected)
    if learners[0].grad_norm is not None:
        assert_same([learners[1].grad_norm], [learners[0].grad_norm])
        assert_same(list(learners[1].diagnose().values()), list(learners[0].diagnose().values()))


@pytest.mark.usefixtures("uncompiled")
def test_the_gradient_of_one_step_can_be_multiplied_in_a_traced_step(plan: MakePlan, small: Small) -> None:
    made = plan(*small("mlp"), "optimizer=adamw", *PACK, "+task.spike={step: 2, factor: 100.0}")
    assert_same(*(take(build(made, compile), [1.0, 1.0, 1.0]) for compile in ("none", "step")))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["optimizer=sgd", "compile=step"],
            "compile=step: expected none: an optimizer that is not built on update rul",
        ),
        (["optimizer=soap", "compile=step"], "the step cannot be traced"),
        (["optimizer=adamw", "compile=step", "+task.accumulate=2"], "with task.accumulate above 1"),
        (["optimizer=adamw", "compile=everything"], "compile=everything: expected one of auto, none, rules, step"),
        (["+sweep.axes.compile=[none,auto]"], "sweep.axes.compile=auto: is for a whole sweep: compile=auto"),
    ],
)
def test_what_cannot_be_compiled_is_one_line_before_any_training(
    overrides: list[str], words: str, plan: MakePlan, small: Small
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        plan(*small("mlp"), *overrides)
    assert "\n" not in str(caught.value)


def ids(plan: Plan) -> list[str]:
    return [trial.run_id for trial in plan.trials]


AUTO = ["optimizer=adamw", *PACK]


@pytest.mark.usefixtures("uncompiled")
def test_auto_compiles_the_steps_of_as_much_work_as_pays(
    plan: MakePlan, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    none, step, auto = ([*small("mlp"), *AUTO, f"compile={choice}"] for choice in ("none", "step", "auto"))
    assert ids(plan(*auto)) == ids(plan(*none))
    work = (
        3 * 100 * 3 * 2 * 16 * (64 * 16 + 16 * 16 + 16 * 10)
    )  # trials, steps, products, sum and product, batch, weights
    work -= 3 * 100 * 2 * 16 * 64 * 16  # no gradient of the images is taken
    monkeypatch.setattr(compiling, "WORTH_FLOPS", work + 1)
    assert ids(plan(*auto)) == ids(plan(*none))
    monkeypatch.setattr(compiling, "WORTH_FLOPS", work)
    assert ids(plan(*auto)) == ids(plan(*step))
    narrow = "+sweep.axes.task.width=[8,16]"  # each width is compiled by itself, and the small one is less work
    assert ids(plan(*auto, narrow)) == ids(plan(*none, narrow))


def test_auto_does_without_where_nothing_can_be_compiled(
    plan: MakePlan, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "WORTH_FLOPS", 1)
    for optimizer in ("sgd", "soap"):
        assert ids(plan(*small("mlp"), f"optimizer={optimizer}", "compile=auto")) == ids(
            plan(*small("mlp"), f"optimizer={optimizer}")
        )


def test_auto_goes_on_with_what_is_stored(
    plan: MakePlan, mapping: Callable[..., dict[str, Any]], small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*small("mlp"), "task.steps=2", "task.eval_every=2", *AUTO]
    run_job(mapping(*overrides))
    monkeypatch.setattr(compiling, "WORTH_FLOPS", 1)
    assert plan(*overrides, "compile=auto").missing == []


def test_a_machine_without_a_compiler_is_told_in_one_line(
    plan: MakePlan, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"compile=rules: needs a C.. compiler, and there is no no-such-compiler"):
        plan(*small("mlp"), "optimizer=adamw", "compile=rules")


@pytest.mark.slow
def test_a_compiled_step_agrees_and_is_compiled_once(plan: MakePlan, small: Small) -> None:
    made = plan(*small("rosenbrock"), "optimizer=adamw", *PACK)
    expected = take(build(made, "none"), FACTORS)
    torch._dynamo.utils.counters.clear()
    assert_same(take(build(made, "step"), FACTORS), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # what touches tensors, and the numbers


@pytest.mark.usefixtures("uncompiled")
def test_a_single_trial_is_compiled_as_a_pack_of_one(plan: MakePlan, small: Small) -> None:
    made = plan(*small("mlp"), "optimizer=adamw", "precision=float64")
    learner = build(made, "step")
    assert isinstance(learner, Ensemble)
    assert_same(
        [loss[0] for loss in take(learner, FACTORS)[:3]], [loss[0] for loss in take(build(made, "none"), FACTORS)[:3]]
    )
