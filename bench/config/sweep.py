"""From a sweep's configuration to the cells of its grid."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from bench.config.schema import MAX_SEED
from bench.config.section import Section
from bench.errors import ConfigError

MAX_CELLS = 100_000
MAX_RANGES = 64
FORMS = ("choice", "linspace", "logspace", "range")
AXIS_FORMS = "[values...], [linspace|logspace, start, stop, num] or [range, start, stop, step], all finite"
Cell = dict[str, Any]


@dataclass(frozen=True)
class SearchConfig:
    """A quasi-random search over the optimizer's own `search_space`."""

    num_trials: int
    seed: int


@dataclass(frozen=True)
class SweepConfig:
    """A grid: axes by dotted key, multiplied, optionally on top of a quasi-random search.

    Attributes:
        axes: the values of each key, in the order in which they are written.
        optional: axes that fall away where the optimizer does not have the key.
        exclude: mappings of key to values; a cell that matches all keys of one of them is dropped.
        fresh_seeds: seeds on which the best cell is trained again.
    """

    name: str
    axes: Mapping[str, Sequence[Any]]
    optional: frozenset[str]
    exclude: Sequence[Mapping[str, Any]]
    search: SearchConfig | None
    fresh_seeds: Sequence[int]


def parse_sweep(mapping: Any) -> SweepConfig:
    """The sweep of a resolved configuration. Raises ConfigError."""
    section = Section(mapping, "sweep")
    name = section.take_name("name")
    search = None if (mapping := section.take("search")) is None else _parse_search(mapping)
    axes = _collect_axes(section.take("axes"), search.num_trials if search else 1)
    optional, exclude = section.take("optional"), section.take("exclude")
    if not isinstance(optional, list) or not all(isinstance(key, str) and key in axes for key in optional):
        raise ConfigError("sweep.optional", optional, f"expected a list of axes: {', '.join(axes) or 'there are none'}")
    if not isinstance(exclude, list) or not all(
        isinstance(rule, Mapping) and set(rule) <= set(axes) for rule in exclude
    ):
        raise ConfigError("sweep.exclude", exclude, "expected a list of mappings from axes to values")
    sweep = SweepConfig(name, axes, frozenset(optional), exclude, search, _take_fresh_seeds(section, axes))
    section.finish()
    return sweep


def _take_fresh_seeds(section: Section, axes: Mapping[str, Sequence[Any]]) -> list[int]:
    seeds = section.take("fresh_seeds")
    if not isinstance(seeds, list) or not all(type(seed) is int and 0 <= seed <= MAX_SEED for seed in seeds):
        raise ConfigError("sweep.fresh_seeds", seeds, f"expected a list of whole numbers from 0 to {MAX_SEED:,}")
    if len(set(seeds)) < len(seeds) or any(seed in seeds for seed in axes.get("seed", [])):
        raise ConfigError("sweep.fresh_seeds", seeds, "expected each seed once, and none that the sweep tunes on")
    return seeds


def _parse_search(mapping: Any) -> SearchConfig:
    section = Section(mapping, "sweep.search")
    search = SearchConfig(section.take_int("num_trials", 1, MAX_CELLS), section.take_int("seed", 0, MAX_SEED))
    section.finish()
    return search


def _collect_axes(value: Any, num_points: int) -> dict[str, list[Any]]:
    """Axes by dotted key; the first one that makes the grid over `num_points` too large is the last one expanded."""
    axes: dict[str, list[Any]] = {}
    count = num_points
    for key, values in _parse_axes(value, ""):
        if key in axes:
            raise ConfigError(f"sweep.axes.{key}", values, "expected every axis once")
        axes[key] = values
        count *= len(values)
        if count > MAX_CELLS:
            raise ConfigError("sweep.axes", f"{count:,} cells", f"expected at most {MAX_CELLS:,} cells in one job")
    return axes


def _parse_axes(value: Any, key: str) -> Iterable[tuple[str, list[Any]]]:
    """Axes by dotted key from a mapping that may be nested, as Hydra's overrides make it."""
    if isinstance(value, list):
        form, arguments = (value[0], value[1:]) if value and value[0] in FORMS else ("choice", value)
        yield key, _checked_values(key, _expand_form(key, form, arguments))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _parse_axes(item, f"{key}.{name}" if key else str(name))
    else:
        raise ConfigError(f"sweep.axes.{key}", value, f"expected {AXIS_FORMS}")


def _checked_values(key: str, values: list[Any]) -> list[Any]:
    if not values or len({repr(value) for value in values}) < len(values):
        raise ConfigError(f"sweep.axes.{key}", values, "expected at least one value, and no value twice")
    return values


def _expand_form(key: str, form: str, arguments: list[Any]) -> list[Any]:
    path = f"sweep.axes.{key}"
    if form == "choice":
        return arguments
    numbers = [a for a in arguments if isinstance(a, int | float) and not isinstance(a, bool) and math.isfinite(a)]
    if len(numbers) != len(arguments) or len(numbers) not in ((2, 3) if form == "range" else (3,)):
        raise ConfigError(path, [form, *arguments], f"expected {AXIS_FORMS}")
    start, stop, last = numbers if len(numbers) == 3 else (*numbers, 1)
    if form == "range":
        if last == 0 or abs(stop - start) / abs(last) > MAX_CELLS:
            raise ConfigError(
                path, [form, *arguments], f"expected a step other than 0 and at most {MAX_CELLS:,} values"
            )
        return [*np.arange(start, stop, last).tolist()]
    if not isinstance(last, int) or not 1 <= last <= MAX_CELLS or (form == "logspace" and min(start, stop) <= 0):
        raise ConfigError(
            path, [form, *arguments], f"expected 1 to {MAX_CELLS:,} values, and positive ends for a logspace"
        )
    with np.errstate(all="ignore"):
        spaced = np.linspace(start, stop, last) if form == "linspace" else np.geomspace(start, stop, last)
    if not np.isfinite(spaced).all():
        raise ConfigError(path, [form, *arguments], f"expected {AXIS_FORMS}")
    return [float(f"{value:.6g}") for value in spaced]  # short numbers, so that a value reads the same everywhere


def expand(sweep: SweepConfig, search_space: Any, absent: frozenset[str]) -> list[Cell]:
    """All cells of a sweep, as mappings from dotted key to value.

    Args:
        sweep: the sweep.
        search_space: the optimizer's ranges by hyperparameter, `{low, high, scale: linear | log}`, or None.
        absent: optional axes that do not exist here; they fall away.

    Raises:
        ConfigError: a search where the optimizer declares no search space, or a range that makes no sense.
    """
    axes = {key: values for key, values in sweep.axes.items() if key not in absent}
    points: list[Cell] = [{}] if sweep.search is None else _search_points(sweep.search, search_space)
    grid = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    cells = [{**point, **cell} for point in points for cell in grid]
    return [cell for cell in cells if not any(_matches(cell, rule) for rule in sweep.exclude)]


def _matches(cell: Cell, rule: Mapping[str, Any]) -> bool:
    wanted = {key: value if isinstance(value, list) else [value] for key, value in rule.items()}
    return bool(wanted) and all(key in cell and cell[key] in values for key, values in wanted.items())


def _search_points(search: SearchConfig, search_space: Any) -> list[Cell]:
    """Points of a scrambled Sobol sequence, the same for every optimizer in the dimensions that they share."""
    from scipy.stats import qmc

    if not search_space:
        raise ConfigError(
            "optimizer.search_space", None, "sweep=search needs the optimizer's ranges, and it declares none"
        )
    if not isinstance(search_space, Mapping) or len(search_space) > MAX_RANGES:
        raise ConfigError("optimizer.search_space", search_space, f"expected a mapping of at most {MAX_RANGES} ranges")
    ranges = [_parse_range(name, mapping) for name, mapping in search_space.items()]
    sampler = qmc.Sobol(len(ranges), scramble=True, rng=np.random.default_rng(search.seed))
    unit = sampler.random_base2(math.ceil(math.log2(search.num_trials)))[: search.num_trials]
    return [
        {f"optimizer.{name}": _place(u, *bounds) for name, u, bounds in zip(search_space, row, ranges, strict=True)}
        for row in unit
    ]


def _parse_range(name: str, mapping: Any) -> tuple[float, float, bool]:
    section = Section(mapping, f"optimizer.search_space.{name}")
    is_log = section.take_choice("scale", ("linear", "log")) == "log"
    low, high = section.take_float("low", -math.inf), section.take_float("high", -math.inf)
    section.finish()
    if not low < high or (is_log and low <= 0):
        raise ConfigError(section.path, mapping, "expected low < high, and both positive on a log scale")
    return low, high, is_log


def _place(unit: float, low: float, high: float, is_log: bool) -> float:
    value = low * (high / low) ** unit if is_log else low + (high - low) * unit
    return float(f"{value:.6g}")
