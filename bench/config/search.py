"""A quasi-random search: its points, its replicates, and how its budget is split between finding and choosing."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bench.config.fields import Number, Positive, Seed
from bench.config.validation import Section, allowed, check
from bench.errors import ConfigError

MAX_TRIALS = 100_000
MAX_REPLICATES = 1000
MAX_RANGES = 64
MAX_VALUES = 1000  # to choose among
SEED_STRIDE = 1000  # between the seeds of one replicate and the same seeds of the next
CHOOSING_SHARE = 4  # a quarter of the trials trains the finalists again


class Range(Section):
    """Where a hyperparameter may be sought: between `low` and `high`, in `step`s from low on, or among `values`."""

    low: Number | None = None
    high: Number | None = None
    scale: Annotated[Literal["linear", "log"] | None, allowed("one of linear, log")] = None
    step: Positive | None = None
    values: Annotated[list[Any] | None, Field(min_length=1, max_length=MAX_VALUES), allowed("a list of values")] = None

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        form = "expected {{low, high, scale: linear or log}}, {{low, high, step}} or {{values: [...]}}"
        if self.values is not None:
            if (self.low, self.high, self.scale, self.step) != (None, None, None, None):
                raise PydanticCustomError("allowed", form)
        elif self.low is None or self.high is None or (self.scale is None) == (self.step is None):
            raise PydanticCustomError("allowed", form)
        elif not self.low < self.high or (self.scale == "log" and self.low <= 0):
            raise PydanticCustomError("allowed", "expected low < high, and both positive on a log scale")
        return self

    def place(self, unit: float) -> Any:
        """The value at a share of the way, a number in six digits: whole where low and step are."""
        if self.values is not None:
            return self.values[int(unit * len(self.values))]
        assert self.low is not None
        assert self.high is not None
        if self.step:
            num_values = math.floor((self.high - self.low) / self.step + 1e-9) + 1
            value = self.low + int(unit * num_values) * self.step
            return int(value) if self.low.is_integer() and self.step.is_integer() else float(f"{value:.6g}")
        is_log = self.scale == "log"
        value = self.low * (self.high / self.low) ** unit if is_log else self.low + (self.high - self.low) * unit
        return float(f"{value:.6g}")


class SearchConfig(Section):
    """A quasi-random search over the optimizer's own `search_space`, and how often it is made anew.

    Attributes:
        num_trials: the budget of one search in all, the trials that choose among its finalists included.
        seed: of the scrambling.
        replicates: independent searches; number r has its own scrambling, and its seeds are shifted by
            r * `SEED_STRIDE`.
    """

    num_trials: Annotated[int, Field(ge=1, le=MAX_TRIALS), allowed(f"a whole number from 1 to {MAX_TRIALS:,}")]
    seed: Seed
    replicates: Annotated[int, Field(ge=1, le=MAX_REPLICATES), allowed(f"a whole number from 1 to {MAX_REPLICATES:,}")]

    @property
    def num_choosing(self) -> int:
        """How many of the trials train finalists again; none where the budget has no room for two finalists."""
        share = self.num_trials // CHOOSING_SHARE
        return share if share >= 2 else 0

    @property
    def num_points(self) -> int:
        """How many different settings are tried; the first are the optimizer's defaults."""
        return self.num_trials - self.num_choosing

    @property
    def num_finalists(self) -> int:
        return max(2, self.num_choosing // 2) if self.num_choosing else 0

    def choosing_seeds(self, seeds: Sequence[int], cells_per_point: int) -> list[int]:
        """The seeds, right behind those tuned on, on which every finalist is trained again.

        Args:
            seeds: those that the search tunes on.
            cells_per_point: trials for each point, seeds included.
        """
        if not self.num_choosing:
            return []
        count = self.num_choosing * cells_per_point // self.num_finalists
        return [max(seeds) + 1 + number for number in range(count)]


def search_points(
    search: SearchConfig, replicate: int, space: Any, defaults: Mapping[str, Any]
) -> list[dict[str, object]]:
    """The optimizer's defaults, then points of a scrambled Sobol sequence.

    The n-th range of every optimizer meets the same coordinates, however many ranges it has.

    Args:
        search: the search.
        replicate: which of its replicates.
        space: the optimizer's ranges by hyperparameter, `{low, high, scale: linear | log}` or another form of `Range`.
        defaults: what the optimizer's yaml says for each of these hyperparameters.

    Raises:
        ConfigError: there is no search space, or a range that makes no sense.
    """
    from scipy.stats import qmc

    if not space:
        raise ConfigError(
            "optimizer.search_space", None, "sweep=search needs the optimizer's ranges, and it declares none"
        )
    if not isinstance(space, Mapping) or len(space) > MAX_RANGES:
        raise ConfigError("optimizer.search_space", space, f"expected a mapping of at most {MAX_RANGES} ranges")
    ranges = [check(Range, mapping, f"optimizer.search_space.{name}") for name, mapping in space.items()]
    # Always of all dimensions: how scipy scrambles one depends on how many there are.
    sampler = qmc.Sobol(MAX_RANGES, scramble=True, rng=np.random.default_rng([search.seed, replicate]))
    unit = sampler.random_base2(math.ceil(math.log2(search.num_points)))[: search.num_points - 1, : len(ranges)]
    return [
        {f"optimizer.{name}": defaults[name] for name in space},
        *(
            {f"optimizer.{name}": bounds.place(u) for name, u, bounds in zip(space, row, ranges, strict=True)}
            for row in unit
        ),
    ]
