"""From a sweep's configuration to the cells of its grid."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np

from bench.config.schema import MAX_SEED
from bench.config.search import SEED_STRIDE, SearchConfig, parse_search, search_points
from bench.config.section import Section
from bench.errors import ConfigError

MAX_CELLS = 100_000
FORMS = ("choice", "linspace", "logspace", "range")
AXIS_FORMS = "[values...], [linspace|logspace, start, stop, num] or [range, start, stop, step], all finite"
Cell = dict[str, Any]
Stage = Literal["tuning", "choosing", "fresh"]
STAGES: tuple[Stage, ...] = ("tuning", "choosing", "fresh")


@dataclass(frozen=True)
class SweepConfig:
    """A grid: axes by dotted key, multiplied, optionally on top of a quasi-random search.

    Attributes:
        axes: the values of each key, in the order in which they are written.
        optional: axes that fall away where the optimizer does not have the key.
        exclude: mappings of key to values; a cell that matches all keys of one of them is dropped.
        fresh_seeds: seeds on which the best cell of each search, or of the grid, is trained again.
    """

    name: str
    axes: Mapping[str, Sequence[Any]]
    optional: frozenset[str]
    exclude: Sequence[Mapping[str, Any]]
    search: SearchConfig | None
    fresh_seeds: Sequence[int]

    @property
    def num_replicates(self) -> int:
        return self.search.replicates if self.search else 1

    def seeds(self, stage: Stage, replicate: int = 0) -> list[int]:
        """The seeds that a stage of a replicate trains every cell on."""
        seeds = self.axes.get("seed", [])
        if stage == "fresh":
            seeds = self.fresh_seeds
        elif stage == "choosing":
            cells_per_point = math.prod(map(len, self.axes.values()))
            seeds = self.search.choosing_seeds(seeds, cells_per_point) if self.search else []
        return [seed + SEED_STRIDE * replicate for seed in seeds] if replicate else list(seeds)


def parse_sweep(mapping: Any, seed: int = 0) -> SweepConfig:
    """The sweep of a resolved configuration, a search without an axis of seeds on `seed`. Raises ConfigError."""
    section = Section(mapping, "sweep")
    name = section.take_name("name")
    search = None if (mapping := section.take("search")) is None else parse_search(mapping)
    axes = _collect_axes(section.take("axes"), search.num_trials * search.replicates if search else 1)
    if search:
        axes.setdefault("seed", [seed])
    optional, exclude = section.take("optional"), section.take("exclude")
    if not isinstance(optional, list) or not all(isinstance(key, str) and key in axes for key in optional):
        raise ConfigError("sweep.optional", optional, f"expected a list of axes: {', '.join(axes) or 'there are none'}")
    if not isinstance(exclude, list) or not all(
        isinstance(rule, Mapping) and set(rule) <= set(axes) for rule in exclude
    ):
        raise ConfigError("sweep.exclude", exclude, "expected a list of mappings from axes to values")
    fresh_seeds = section.take("fresh_seeds")
    section.finish()
    sweep = SweepConfig(name, axes, frozenset(optional), exclude, search, fresh_seeds)
    _check_seeds(sweep)
    return sweep


def _check_seeds(sweep: SweepConfig) -> None:
    """Raises ConfigError unless every seed is one, and no two parts of the sweep that must be independent share any."""
    fresh, tuned = sweep.fresh_seeds, sweep.axes.get("seed", [])
    if not isinstance(fresh, list) or not all(map(_is_seed, fresh)):
        raise ConfigError("sweep.fresh_seeds", fresh, f"expected a list of whole numbers from 0 to {MAX_SEED:,}")
    if sweep.search and not all(map(_is_seed, tuned)):
        raise ConfigError("sweep.axes.seed", tuned, f"expected whole numbers from 0 to {MAX_SEED:,}")
    replicates = range(sweep.num_replicates)
    used = [seed for number in replicates for stage in STAGES[:2] for seed in sweep.seeds(stage, number)]
    if len(replicates) > 1 and len(set(used)) < len(used):
        text = f"expected seeds within {SEED_STRIDE:,} of each other, so that no two replicates tune on the same"
        raise ConfigError("sweep.axes.seed", tuned, text)
    again = [seed for number in replicates for seed in sweep.seeds("fresh", number)]
    if len(set(again)) < len(again) or any(seed in again for seed in used):
        raise ConfigError("sweep.fresh_seeds", fresh, "expected each seed once, and none that the sweep tunes on")


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SEED


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


def expand(
    sweep: SweepConfig,
    search_space: Any,
    absent: frozenset[str],
    defaults: Mapping[str, Any] | None = None,
    replicate: int = 0,
) -> list[Cell]:
    """All cells of a sweep, or of one replicate of its search, as mappings from dotted key to value.

    Args:
        sweep: the sweep.
        search_space: the optimizer's ranges by hyperparameter, `{low, high, scale: linear | log}`, or None.
        absent: optional axes that do not exist here; they fall away.
        defaults: the optimizer's own value of each hyperparameter in its search space.
        replicate: the number of the search.

    Raises:
        ConfigError: a search where the optimizer declares no search space, or a range that makes no sense.
    """
    axes = {key: values for key, values in sweep.axes.items() if key not in absent}
    if sweep.search:
        axes["seed"] = sweep.seeds("tuning", replicate)
    points: list[Cell] = [{}]
    if sweep.search:
        points = search_points(sweep.search, replicate, search_space, defaults or {})
    grid = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    cells = [{**point, **cell} for point in points for cell in grid]
    return [cell for cell in cells if not any(_matches(cell, rule) for rule in sweep.exclude)]


def _matches(cell: Cell, rule: Mapping[str, Any]) -> bool:
    wanted = {key: value if isinstance(value, list) else [value] for key, value in rule.items()}
    return bool(wanted) and all(key in cell and cell[key] in values for key, values in wanted.items())
