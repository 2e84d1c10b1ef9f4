"""From a sweep's configuration to the cells of its grid."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from bench.config.axes import check_count, parse_axes
from bench.config.fields import MAX_SEED, Name, Seed
from bench.config.search import SEED_STRIDE, SearchConfig, search_points
from bench.config.validation import Section, allowed, check
from bench.errors import ConfigError

Cell = dict[str, Any]
Stage = Literal["tuning", "choosing", "fresh"]
STAGES: tuple[Stage, ...] = ("tuning", "choosing", "fresh")
FRESH_SWEEP = "fresh_seeds"  # the sweep's name of runs on fresh seeds
RAW_LOSS, BEST = "val_loss", "best"  # objectives: of the weights in training; of whichever weights have the lowest
STEPS = "steps_to_target"  # the objective of trials that stop at their target, and of no others


class SweepConfig(Section):
    """A grid: axes by dotted key, multiplied, optionally on top of a quasi-random search.

    Attributes:
        axes: the values of each key, in the order in which they are written.
        optional: axes that fall away where the optimizer does not have the key.
        exclude: mappings of key to values; a cell that matches all keys of one of them is dropped.
        fresh_seeds: seeds on which the best cell of each search, or of the grid, is trained again.
        grow: whether axes of numbers are extended until the best cell sits on no edge; the name of an axis extends
            that one, for each combination of the others by itself.
        objective: what cells are chosen by, a final validation loss or the steps to the target, see
            `bench.runs.objective`.
    """

    name: Name
    axes: Annotated[dict[str, list[Any]], PlainValidator(parse_axes), WithJsonSchema({"type": "object"})]
    optional: Annotated[frozenset[str], Field(strict=False), allowed("a list of axes")]
    exclude: Annotated[list[dict[str, Any]], allowed("a list of mappings from axes to values")]
    search: SearchConfig | None
    fresh_seeds: Annotated[list[Seed], allowed(f"a list of whole numbers from 0 to {MAX_SEED:,}")]
    grow: Annotated[bool | str, allowed("true, false or the name of an axis")] = False
    objective: Annotated[str, allowed("val_loss, that of an average such as ema_val_loss, or best")] = RAW_LOSS

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

    def choose(self, stage: Stage, ranked: Mapping[int, Sequence[Cell]]) -> Iterator[tuple[int, Cell]]:
        """The best cells of each replicate, on the seeds of a later stage.

        Args:
            stage: the later one.
            ranked: the cells of each replicate, best first.
        """
        count = self.search.num_finalists if self.search and stage == "choosing" else 1
        for replicate, cells in ranked.items():
            for cell in cells[:count]:
                yield from ((replicate, {**cell, "seed": seed}) for seed in self.seeds(stage, replicate))


def parse_sweep(mapping: Any, seed: int = 0) -> SweepConfig:
    """The sweep of a resolved configuration. Axes without a name are a grid; a search without seeds has `seed`.

    Raises:
        ConfigError: a key or value that is not allowed.
    """
    sweep = check(SweepConfig, mapping, "sweep")
    if (sweep.axes or sweep.search) and sweep.name == "none":
        sweep = sweep.model_copy(update={"name": "grid"})
    if search := sweep.search:
        sweep = sweep.model_copy(update={"axes": {**sweep.axes, "seed": sweep.axes.get("seed", [seed])}})
        check_count(search.num_trials * search.replicates * math.prod(map(len, sweep.axes.values())))
    if not sweep.optional <= set(sweep.axes):
        names = ", ".join(sweep.axes) or "there are none"
        raise ConfigError("sweep.optional", sorted(sweep.optional), f"expected a list of axes: {names}")
    if not all(set(rule) <= set(sweep.axes) for rule in sweep.exclude):
        raise ConfigError("sweep.exclude", sweep.exclude, "expected a list of mappings from axes to values")
    if isinstance(sweep.grow, str) and sweep.grow not in sweep.axes:
        names = ", ".join(sweep.axes) or "there are none"
        raise ConfigError("sweep.grow", sweep.grow, f"expected true, false or the name of an axis: {names}")
    if sweep.grow and sweep.search:
        raise ConfigError(
            "sweep.grow", sweep.grow, "a grid grows, a search does not: widen optimizer.search_space instead"
        )
    _check_seeds(sweep)
    return sweep


def _check_seeds(sweep: SweepConfig) -> None:
    """Raises ConfigError unless every seed is one, and no two parts of the sweep that must be independent share any."""
    fresh, tuned = sweep.fresh_seeds, sweep.axes.get("seed", [])
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
