"""A sweep's configuration becomes exactly the cells that it says, or one line that says why not."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.config.growth import beyond_edges
from bench.config.search import SearchConfig, search_points
from bench.config.sweep import SweepConfig, expand, parse_sweep
from bench.errors import ConfigError
from bench.jobs.plan import Plan

MakePlan = Callable[..., Plan]
DEFAULTS = {"lr": 0.003, "momentum": 0.9}
SPACE = {"lr": {"low": 1e-4, "high": 1e-1, "scale": "log"}, "momentum": {"low": 0.5, "high": 1.0, "scale": "linear"}}


def sweep(axes: dict[str, Any], **changes: Any) -> SweepConfig:
    mapping = {
        "name": "test",
        "axes": axes,
        "optional": [],
        "exclude": [],
        "search": None,
        "fresh_seeds": [],
        **changes,
    }
    return parse_sweep(mapping)


def cells(axes: dict[str, Any], replicate: int = 0, **changes: Any) -> list[dict[str, Any]]:
    return expand(sweep(axes, **changes), SPACE, frozenset(), DEFAULTS, replicate)


def search(num_trials: int, seed: int = 0, replicates: int = 1) -> dict[str, int]:
    return {"num_trials": num_trials, "seed": seed, "replicates": replicates}


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
        (["range", 1, 1.3, 0.1], [1.0, 1.1, 1.2]),
        (["range", 0.1, 0.5, 0.1], [0.1, 0.2, 0.3, 0.4]),
        (["range", 0.3, 0, -0.1], [0.3, 0.2, 0.1]),
        (["range", 1e-3, 4e-3, 1e-3], [1e-3, 2e-3, 3e-3]),
        ([0, 0.5], [0.0, 0.5]),
        (["choice", True, "x"], [True, "x"]),
    ],
)
def test_every_form_of_an_axis(form: list[Any], values: list[Any]) -> None:
    assert repr([cell["a"] for cell in cells({"a": form})]) == repr(values)


def test_exclude_drops_cells_that_match_all_keys_of_a_rule() -> None:
    kept = cells({"a": [1, 2, 3], "b": [1, 2]}, exclude=[{"a": [1, 2], "b": 2}])
    assert kept == [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 1}, {"a": 3, "b": 2}]


def test_search_points_are_seeded_and_lie_within_the_ranges() -> None:
    points = cells({"seed": [0, 1]}, search=search(7, seed=3))
    assert len(points) == 14
    assert all(1e-4 <= point["optimizer.lr"] <= 1e-1 and 0.5 <= point["optimizer.momentum"] <= 1 for point in points)
    assert points == cells({"seed": [0, 1]}, search=search(7, seed=3))
    assert points != cells({"seed": [0, 1]}, search=search(7, seed=4))


def test_search_covers_a_log_range_evenly_in_decades() -> None:
    points = cells({}, search=search(400))[1:]
    decades = [sum(10.0**k <= point["optimizer.lr"] < 10.0 ** (k + 1) for point in points) for k in (-4, -3, -2)]
    assert all(90 <= count <= 110 for count in decades)


def test_every_search_begins_with_the_defaults() -> None:
    for replicate in range(3):
        first = cells({}, replicate, search=search(8, replicates=3))[0]
        assert first == {"optimizer.lr": 0.003, "optimizer.momentum": 0.9, "seed": 1000 * replicate}


def test_replicates_have_scramblings_and_seeds_of_their_own() -> None:
    first, second = (cells({"seed": [0, 1]}, number, search=search(8, replicates=2)) for number in (0, 1))
    assert {cell["seed"] for cell in first} == {0, 1}
    assert {cell["seed"] for cell in second} == {1000, 1001}
    assert not {cell["optimizer.lr"] for cell in first[2:]} & {cell["optimizer.lr"] for cell in second[2:]}


def test_optimizers_meet_the_same_points_in_the_dimensions_that_they_share() -> None:
    configured = SearchConfig(**search(16))
    wide = {**SPACE, "eps": {"low": 1e-12, "high": 1e-4, "scale": "log"}}
    few = search_points(configured, 2, SPACE, DEFAULTS)
    many = search_points(configured, 2, wide, {**DEFAULTS, "eps": 1e-8})
    assert [point["optimizer.lr"] for point in few] == [point["optimizer.lr"] for point in many]


@pytest.mark.parametrize("num_trials", [1, 7, 8, 9, 16, 33, 64])
@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_finding_and_choosing_stay_within_the_budget(num_trials: int, seeds: list[int]) -> None:
    configured = sweep({"seed": seeds}, search=search(num_trials))
    assert configured.search is not None
    choosing = configured.search.num_finalists * len(configured.seeds("choosing"))
    tuning = len(cells({"seed": seeds}, search=search(num_trials)))
    assert tuning + choosing <= num_trials * len(seeds) < tuning + choosing + configured.search.num_finalists + 1


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
        ({"a": [1, 1.0]}, {}, "no value twice"),
        ({"a": [[0.9, 1], [0.9, 1.0]]}, {}, "no value twice"),
        ({"a": ["range", 5, 1]}, {}, "at least one value"),
        ({"a": ["range", 0, 1000], "b": ["range", 0, 1000]}, {}, "at most 100,000 cells"),
        ({"a": [1]}, {"optional": ["b"]}, "sweep.optional"),
        ({"a": [1]}, {"exclude": [{"b": 1}]}, "sweep.exclude"),
        ({"a": [1]}, {"search": search(0)}, "sweep.search.num_trials"),
        ({}, {"search": search(8, replicates=0)}, "sweep.search.replicates"),
        ({"seed": [0, 1000]}, {"search": search(8, replicates=2)}, "no two replicates tune on the same"),
        ({"seed": ["x"]}, {"search": search(8)}, "sweep.axes.seed"),
        ({"seed": [0]}, {"search": search(8), "fresh_seeds": [1]}, "none that the sweep tunes on"),
        ({"seed": [0]}, {"search": search(8, replicates=2), "fresh_seeds": [1000]}, "none that the sweep tunes on"),
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


def test_a_search_space_may_hold_choices_and_whole_numbers() -> None:
    space = {
        "nesterov": {"values": [True, False]},
        "ns_steps": {"low": 3, "high": 8, "step": 1},
        "betas.0": {"low": 0.8, "high": 0.95, "step": 0.05},
        "lr": {"low": 1e-4, "high": 1e-1, "scale": "log"},
    }
    defaults = {"nesterov": True, "ns_steps": 5, "betas.0": 0.9, "lr": 0.01}
    points = search_points(SearchConfig(**search(200)), 0, space, defaults)[1:]
    drawn = {name: [point[f"optimizer.{name}"] for point in points] for name in space}
    assert sorted(set(drawn["ns_steps"])) == [3, 4, 5, 6, 7, 8]
    assert all(type(value) is int for value in drawn["ns_steps"])
    assert sorted(set(drawn["betas.0"])) == [0.8, 0.85, 0.9, 0.95]
    assert 0.4 < drawn["nesterov"].count(True) / len(points) < 0.6


@pytest.mark.parametrize(
    "bounds",
    [{"low": 1, "high": 2}, {"values": []}, {"values": [1], "low": 1}, {"low": 1, "high": 8, "step": 0},
     {"low": 1, "high": 8, "step": 1, "scale": "log"}, {"low": 2, "high": 1, "step": 1}],
)  # fmt: skip
def test_a_range_of_no_known_form_is_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.search_space\.lr"):
        search_points(SearchConfig(**search(8)), 0, {"lr": bounds}, {"lr": 1.0})


@pytest.mark.parametrize(
    ("values", "best", "beyond"),
    [
        ([1e-3, 1e-2, 1e-1], 1e-1, 1.0),
        ([1e-3, 1e-2, 1e-1], 1e-3, 1e-4),
        ([1e-3, 1e-2, 1e-1], 1e-2, None),
        ([3e-3, 1e-2], 1e-2, 0.0333333),
        ([1, 2, 3], 3, 4),
        ([0, 0.01, 0.1], 0, None),
        ([0.2, 0.3, 0.4], 0.2, 0.1),
        ([0.1, 0.2, 0.4], 0.1, 0.05),
        ([0.1, 0.3, 0.5], 0.1, None),
        ([1e-2], 1e-2, None),
        ([True, False], True, None),
    ],
)
def test_an_axis_goes_on_beyond_the_edge_that_the_best_sits_on(values: list[Any], best: Any, beyond: Any) -> None:
    questions = {"seed": [0, 1], "task.loss_scale": [1e-3, 1.0]}
    found = dict(beyond_edges({"a": values, **questions}, {"a": best, "seed": 0, "task.loss_scale": 1.0}))
    assert found == ({} if beyond is None else {"a": pytest.approx(beyond)})


def test_a_search_does_not_grow() -> None:
    with pytest.raises(ConfigError, match="a grid grows, a search does not"):
        sweep({"seed": [0]}, search=search(4), grow=True)


def test_only_an_axis_grows() -> None:
    with pytest.raises(ConfigError, match=r"expected true, false or the name of an axis: seed"):
        sweep({"seed": [0]}, grow="optimizer.lr")
