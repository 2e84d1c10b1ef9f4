"""Training one trial or a pack of them to its end, whatever happens on the way."""

import logging
import traceback
from collections.abc import Callable, Sequence

from bench.config.schema import TrialConfig
from bench.training.averaging import AveragingLearner
from bench.training.checkpoint import Checkpoint
from bench.training.components import Task, build_schedule
from bench.training.device_step import CompiledEnsemble
from bench.training.ensemble import Ensemble
from bench.training.interrupt import StopSignal
from bench.training.learner import Learner, PlainLearner
from bench.training.loop import TrainingLoop, Watcher
from bench.training.memory import is_out_of_memory
from bench.training.record import Record

log = logging.getLogger(__name__)
OUT_OF_MEMORY = "out of memory"


def train(
    configs: Sequence[TrialConfig],
    task: Task,
    watchers: Sequence[Watcher],
    stop: StopSignal,
    checkpoint: Checkpoint | None = None,
    *,
    keep_weights: bool = False,
) -> list[Record]:
    """Train trials together, from their checkpoint if there is one.

    Whatever happens, each comes back with a status; a fault of the code is `failed`.
    """
    schedule = build_schedule(configs[0].schedule, configs[0].task.steps)

    def set_up(records: Sequence[Record]) -> TrainingLoop:
        living = [record.trial for record in records if record.status == "running"]
        learner = make_learner(task, living, is_pack=len(records) > 1)
        return TrainingLoop(learner, records, schedule, watchers, stop, checkpoint, keep_weights=keep_weights)

    records = [Record(config, pack_size=len(configs)) for config in configs]
    try:
        loop = None if checkpoint is None else _resume(checkpoint, configs, set_up)
        loop = set_up(records) if loop is None else loop
        records = list(loop.records)
        loop.run()
    except Exception as error:
        log.debug("training failed", exc_info=True)
        _mark_failed(records, error)
    return records


def make_learner(task: Task, trials: Sequence[TrialConfig], *, is_pack: bool) -> Learner:
    """What takes the steps of a trial, or of a pack of them, which may have lost all but one; with its averages.

    A whole step is compiled as that of a pack, be it of one trial.
    """
    if trials[0].compile == "step":
        learner: Learner = CompiledEnsemble(task, trials)
    else:
        learner = Ensemble(task, trials) if is_pack else PlainLearner(task, trials[0])
    average = trials[0].average
    return learner if average.name == "none" else AveragingLearner(learner, average, len(trials))


def _resume(
    checkpoint: Checkpoint, configs: Sequence[TrialConfig], set_up: Callable[[Sequence[Record]], TrainingLoop]
) -> TrainingLoop | None:
    """The loop as the checkpoint left it; None where there is none that fits these trials."""
    state = checkpoint.load()
    if state is None:
        return None
    try:
        loop = set_up([Record(config, **own) for config, own in zip(configs, state["records"], strict=True)])
        loop.restore(state)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        checkpoint.reject(f"does not fit its trials ({type(error).__name__}: {error})")
        return None
    if len(configs) == 1:
        log.warning("1 trial goes on from step %d of %d", loop.step, loop.num_steps)
    else:
        log.warning("%d trials go on from step %d of %d", len(configs), loop.step, loop.num_steps)
    return loop


def _mark_failed(records: Sequence[Record], error: Exception) -> None:
    where = traceback.extract_tb(error.__traceback__)[-1]
    message = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
    for record in records:
        if record.status == "running":
            record.status = "failed"
            record.message = OUT_OF_MEMORY if is_out_of_memory(error) else message
