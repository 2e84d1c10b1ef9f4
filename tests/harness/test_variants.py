"""Held-out workloads: drawn by number, the same everywhere, and another trial than the task itself."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.config.folders import find_conf_dir
from bench.config.variants import draw_variant
from bench.errors import ConfigError
from bench.jobs.plan import Plan
from tests.marks import quick_for

MakePlan = Callable[..., Plan]
TASKS = sorted(file.stem for file in (find_conf_dir() / "task").glob("*.yaml"))
TASK: dict[str, Any] = {"name": "mine", "width": 8, "depth": 1, "variants": {"width": [1, 2, 3, 4], "depth": [5, 6]}}


def test_variant_zero_is_the_task_itself() -> None:
    assert draw_variant(TASK) == TASK
    assert draw_variant({**TASK, "variant": 0}) == {**TASK, "variant": 0}


def test_a_number_draws_the_same_values_each_time_and_numbers_reach_all_of_them() -> None:
    drawn = [draw_variant({**TASK, "variant": number}) for number in range(1, 60)]
    assert drawn[0] == draw_variant({**TASK, "variant": 1})
    assert {(task["width"], task["depth"]) for task in drawn} == {(w, d) for w in (1, 2, 3, 4) for d in (5, 6)}


def test_the_values_of_a_number_never_change() -> None:
    drawn = [draw_variant({**TASK, "variant": number}) for number in (1, 2, 3)]
    assert [(task["width"], task["depth"]) for task in drawn] == [(4, 6), (1, 6), (2, 5)]


def test_a_drawn_task_draws_itself_again() -> None:
    drawn = draw_variant({**TASK, "variant": 3})
    assert draw_variant(drawn) == drawn


def test_a_variant_is_another_trial_with_the_drawn_options_stored(plan: MakePlan) -> None:
    base, variant = (plan("task=mlp", f"task.variant={number}").trials[0] for number in (0, 1))
    assert base.run_id != variant.run_id
    allowed = base.config.task.variants
    assert all(variant.config.task.options[option] in values for option, values in allowed.items())
    assert variant.config.mapping["task"]["width"] == variant.config.task.options["width"]


@pytest.mark.parametrize("task", quick_for(["mlp", "graph"], sorted({*TASKS} - {"cifar", "tabular"})))
def test_variants_of_every_task_can_be_built(plan: MakePlan, task: str) -> None:
    options = [plan(f"task={task}", f"task.variant={number}").trials[0].config.task.options for number in (1, 2, 3)]
    assert len({repr(sorted(values.items())) for values in options}) > 1


@pytest.mark.parametrize("value", ["-1", "1.5", "true", "many", "null"])
def test_a_variant_that_is_no_number_is_refused(plan: MakePlan, value: str) -> None:
    with pytest.raises(ConfigError, match=r"^task\.variant="):
        plan("task=mlp", f"task.variant={value}")


def test_a_variant_of_a_task_without_any_or_of_an_unknown_option_is_refused(plan: MakePlan) -> None:
    with pytest.raises(ConfigError, match=r"^task\.variant=1: this task lists no variants"):
        plan("task=mlp", "task.variant=1", "task.variants=null")
    with pytest.raises(ConfigError, match=r"^task\.variants\.with=.*for an option of the task"):
        plan("task=mlp", "task.variant=1", "+task.variants.with=[1]")
