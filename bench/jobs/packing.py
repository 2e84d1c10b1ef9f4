"""Which trials can train together, and how they are cut into packs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.config.schema import TrialConfig
from bench.runs.trial import Trial
from bench.training.ensemble_optimizer import has_rules
from bench.training.routing import optimizer_classes


@dataclass(frozen=True)
class Pack:
    """Trials that train together as one ensemble, or a single trial.

    Attributes:
        reason: why it is a single trial that cannot be packed.
        alone_step_seconds: what a step of its trials costs alone, where that was measured.
        num_threads: how many threads it gets on a CPU; None: as many as there are.
    """

    trials: tuple[Trial, ...]
    reason: str | None = None
    alone_step_seconds: float | None = None
    num_threads: int | None = None


def structure(config: TrialConfig) -> str:
    """The pack key: equal for trials that differ only in the seed and in float hyperparameters of the optimizer.

    An optimizer that is not built on rules may branch on a hyperparameter of 0, so that 0 stands apart there.
    """
    zero_apart = not all(map(has_rules, optimizer_classes(config.optimizer)))
    masked = {**config.mapping, "seed": None, "optimizer": _mask_floats(config.mapping["optimizer"], zero_apart)}
    return repr(sorted(masked.items()))


def cost_key(config: TrialConfig) -> str:
    """Equal for trials whose steps cost the same: those of one structure, and of others that differ in floats only.

    Trials that are to be equal bit by bit under another `task.loss_scale` thereby train in packs of the same size.
    """
    return repr(_mask_floats({**config.mapping, "seed": None}))


def _mask_floats(value: Any, zero_apart: bool = False) -> Any:
    if isinstance(value, Mapping):
        return sorted((key, _mask_floats(item, zero_apart)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return [_mask_floats(item, zero_apart) for item in value]
    return "float" if isinstance(value, float) and not (zero_apart and value == 0) else value


def group_by_structure(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Trials that could train together, in the order in which they were asked for."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(structure(trial.config), []).append(trial)
    return list(groups.values())


def cut_into_packs(trials: Sequence[Trial], pack_size: int) -> list[Pack]:
    """Packs of at most `pack_size`, as even as possible."""
    num_packs = -(-len(trials) // pack_size)
    bounds = [len(trials) * number // num_packs for number in range(num_packs + 1)]
    return [Pack(tuple(trials[start:end])) for start, end in pairwise(bounds)]


def with_companion(missing: Sequence[Trial], pack: Sequence[Trial]) -> tuple[Trial, ...]:
    """The missing ones of trials that can train together, a single one beside another that is trained once more.

    However many trials a pack has, each gets the same bits; alone, on the plain path, it would get others. So neither
    where a job was stopped shows in its results, nor how its trials were cut into packs.
    """
    others = [trial for trial in pack if trial.run_id != missing[0].run_id]
    return (missing[0], *others[:1]) if len(missing) == 1 else tuple(missing)
