"""Optimizers around others, from yaml: what the base gets, what is refused, what the plan says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.config.optimizer import parse_optimizer
from bench.errors import ConfigError
from bench.jobs.plan import Plan, make_plan
from bench.jobs.proofs import Proofs
from tests.harness.conftest import SMALL
from tests.harness.test_ensemble import train_together
from tests.marks import quick_for

MakePlan = Callable[..., Plan]
Mapping = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("name", quick_for(["muon", "sgd"], ["adamw", "muon", "sgd", "schedule_free_adamw"]))
@pytest.mark.parametrize("wrapper", ["sam", "lookahead"])
def test_in_the_harness_a_wrapper_that_does_nothing_is_its_base_whatever_that_is(
    mapping: Mapping, name: str, wrapper: str
) -> None:
    composed = mapping(*SMALL["mlp"], f"optimizer={name}", "+optimizer.groups=[{match: 'head.*', lr: 0.3}]")
    inner = {key: value for key, value in composed["optimizer"].items() if key not in ("lr", "groups")}
    around: dict[str, Any] = {"name": "around", "base": inner}
    around |= {key: composed["optimizer"][key] for key in ("lr", "groups")}
    if wrapper == "sam":
        around |= {"_target_": "optimizers.sam.SAM", "rho": 0.0, "needs_closure": True}
    else:
        around |= {"_target_": "optimizers.lookahead.Lookahead", "k": 5, "alpha": 1.0}
    plans = [make_plan(composed), make_plan({**composed, "optimizer": around})]
    plain, wrapped = (train_together(plan, plan.trials)[0] for plan in plans)
    for name in ("val_loss", "train_loss", "lr"):
        assert [repr(row[name]) for row in wrapped.rows] == [repr(row[name]) for row in plain.rows]
    assert wrapped.state_bytes >= plain.state_bytes


@pytest.mark.parametrize("name", ["sam_adamw", "lookahead_adamw"])
def test_the_plan_says_that_and_why_its_trials_train_one_by_one(plan: MakePlan, tmp_path: Path, name: str) -> None:
    made = plan(*SMALL["mlp"], f"optimizer={name}", "sweep=lr", "sweep.axes.optimizer.lr=[0.001,0.01]")
    task = made.tasks.get(made.trials[0].config.task, "cpu")
    reason = Proofs(tmp_path).reason_alone(task, made.trials)
    assert (
        reason
        == {
            "sam_adamw": "sam_adamw steps through a closure",
            "lookahead_adamw": "lookahead_adamw is put around another optimizer",
        }[name]
    )
    losses = {train_together(made, [trial])[0].rows[-1]["val_loss"] for trial in made.trials}
    assert len(losses) == 2, "the base has the swept lr"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("~optimizer.base", "optimizer.base=None: SAM goes around another optimizer"),
        ("+optimizer.base.lr=0.1", "the lr of base stands at the optimizer itself"),
        ("+optimizer.base.needs_closure=true", "base steps without a closure, and has no base of its own"),
        ("+optimizer.modifiers=[cautious]", "not around a wrapper: write optimizer.base.modifiers"),
        ("+optimizer.base.groups=[{match: '*', lr: 1}]", "rest and base take no groups"),
        ("optimizer.rho=-1", "optimizer.rho=-1: expected a finite number of at least 0"),
        ("optimizer.base.eps=-1", "optimizer.base.eps=-1: expected a finite number"),
        ("+optimizer.base.bogus=1", "optimizer.base.bogus=1: AdamW"),
        ("optimizer.needs_closure=false", "SAM steps through a closure: set optimizer.needs_closure=true"),
    ],
)
def test_a_mistake_is_one_line(mapping: Mapping, override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(mapping(*SMALL["mlp"], "optimizer=sam_adamw", override))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("k", 0), ("k", 1.5), ("alpha", 0.0), ("alpha", 1.5), ("alpha", True)])
def test_lookahead_refuses_what_its_algorithm_has_no_meaning_for(mapping: Mapping, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^optimizer.{key}="):
        make_plan(mapping(*SMALL["mlp"], "optimizer=lookahead_adamw", f"optimizer.{key}={value}"))


def test_the_code_of_the_base_is_part_of_the_identity() -> None:
    base = {"_target_": "optimizers.lion.Lion"}
    config = parse_optimizer({"name": "x", "_target_": "optimizers.sam.SAM", "base": base})
    assert [part.class_path for part in config.parts] == ["optimizers.sam.SAM", "optimizers.lion.Lion"]
