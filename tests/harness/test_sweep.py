"""A sweep's configuration becomes exactly the cells that it says, or one line that says why not."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.config.sweep import expand, parse_sweep
from bench.errors import ConfigError
from bench.jobs.plan import Plan

MakePlan = Callable[..., Plan]
SPACE = {"lr": {"low": 1e-4, "high": 1e-1, "scale": "log"}, "momentum": {"low": 0.5, "high": 1.0, "scale": "linear"}}


def cells(axes: dict[str, Any], absent: frozenset[str] = frozenset(), **changes: Any) -> list[dict[str, Any]]:
    mapping = {
        "name": "test",
        "axes": axes,
        "optional": [],
        "exclude": [],
        "search": None,
        "fresh_seeds": [],
        **changes,
    }
    return expand(parse_sweep(mapping), SPACE, absent)


def test_axes_multiply_in_the_order_in_which_they_are_written() -> None:
    assert cells({"optimizer": {"lr": [1, 2]}, "seed": [0, 1]}) == [
        {"optimizer.lr": 1, "seed": 0},
        {"optimizer.lr": 1, "seed": 1},
        {"optimizer.lr": 2, "seed": 0},
        {"optimizer.lr": 2, "seed": 1},
    ]


@pytest.mark.parametrize(
    ("form", "values"),
    [
        (["logspace", 1e-4, 1e-1, 4], [1e-4, 1e-3, 1e-2, 1e-1]),
        (["linspace", 0, 1, 3], [0.0, 0.5, 1.0]),
        (["range", 0, 3], [0, 1, 2]),
        (["range", 1, 2, 0.5], [1.0, 1.5]),
        (["choice", True, "x"], [True, "x"]),
    ],
)
def test_every_form_of_an_axis(form: list[Any], values: list[Any]) -> None:
    assert [cell["a"] for cell in cells({"a": form})] == values


def test_exclude_drops_cells_that_match_all_keys_of_a_rule() -> None:
    kept = cells({"a": [1, 2, 3], "b": [1, 2]}, exclude=[{"a": [1, 2], "b": 2}])
    assert kept == [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 1}, {"a": 3, "b": 2}]


def test_search_points_are_seeded_and_lie_within_the_ranges() -> None:
    search = {"num_trials": 10, "seed": 3}
    points = cells({"seed": [0, 1]}, search=search)
    assert len(points) == 20
    assert all(1e-4 <= point["optimizer.lr"] <= 1e-1 and 0.5 <= point["optimizer.momentum"] <= 1 for point in points)
    assert points == cells({"seed": [0, 1]}, search=search)
    assert points != cells({"seed": [0, 1]}, search={**search, "seed": 4})


def test_search_covers_a_log_range_evenly_in_decades() -> None:
    points = cells({}, search={"num_trials": 300, "seed": 0})
    decades = [sum(10.0**k <= point["optimizer.lr"] < 10.0 ** (k + 1) for point in points) for k in (-4, -3, -2)]
    assert all(90 <= count <= 110 for count in decades)


@pytest.mark.parametrize(
    ("axes", "changes", "words"),
    [
        ({"a": ["logspace", 0, 1, 3]}, {}, "positive ends"),
        ({"a": ["logspace", 1, 10, 2.5]}, {}, "1 to 100,000 values"),
        ({"a": ["range", 0, 1e12]}, {}, "at most 100,000 values"),
        ({"a": ["linspace", 0, float("nan"), 3]}, {}, "all finite"),
        ({"a": 3}, {}, "expected [values...]"),
        ({"a": []}, {}, "at least one value"),
        ({"a": [1, 1]}, {}, "no value twice"),
        ({"a": ["range", 0, 1000], "b": ["range", 0, 1000]}, {}, "at most 100,000 cells"),
        ({"a": [1]}, {"optional": ["b"]}, "sweep.optional"),
        ({"a": [1]}, {"exclude": [{"b": 1}]}, "sweep.exclude"),
        ({"a": [1]}, {"search": {"num_trials": 0, "seed": 0}}, "sweep.search.num_trials"),
        ({"a.b": [1], "a": {"b": [2]}}, {}, "every axis once"),
    ],
)
def test_a_wrong_sweep_is_told_in_one_line(axes: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]+$") as error:
        cells(axes, **changes)
    assert words in str(error.value)


def test_an_axis_that_the_optimizer_does_not_have_is_refused_with_its_signature(plan: MakePlan) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.eps.*MAdam\(params.*has no such option"):
        plan("optimizer=madam", "task=quadratic", "sweep=lr_eps", "sweep.optional=[]")


def test_an_optional_axis_falls_away_where_it_does_not_exist(plan: MakePlan) -> None:
    made = plan("optimizer=madam", "task=quadratic", "sweep=lr_eps")
    assert made.absent == {"optimizer.eps"}
    assert len(made.trials) == 7


def test_an_axis_may_be_an_option_that_the_class_has_and_the_yaml_does_not_name(plan: MakePlan) -> None:
    made = plan(
        "optimizer=sgd", "optimizer.nesterov=false", "task=quadratic", "+sweep.axes.optimizer.dampening=[0.0,0.1]"
    )
    assert [trial.config.optimizer.hyperparameters["dampening"] for trial in made.trials] == [0.0, 0.1]


def test_every_cell_is_its_own_run(plan: MakePlan) -> None:
    made = plan("optimizer=adam", "task=quadratic", "sweep=lr_eps")
    assert len({trial.run_id for trial in made.trials}) == len(made.trials) == 56
