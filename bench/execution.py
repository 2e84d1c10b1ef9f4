"""Training a pack and storing its runs."""

import logging
import traceback
from collections.abc import Sequence
from typing import Any

import torch

from bench.config import TrackerConfig
from bench.ensemble import Ensemble
from bench.interrupt import StopSignal
from bench.learner import Learner, PlainLearner
from bench.loading import Task
from bench.packing import Pack
from bench.record import Record
from bench.schedules import build_schedule
from bench.store import Store
from bench.tracker import open_run
from bench.training import TrainingLoop, Watcher
from bench.trial import Trial

log = logging.getLogger(__name__)
Run = dict[str, Any]


class PackRunner:
    """Trains packs of one job and stores every trial as its own run.

    Args:
        store: where runs go.
        tracker: what mirrors them.
        watchers: who sees them live.
        stop: asks for a stop at the next step.
    """

    def __init__(self, store: Store, tracker: TrackerConfig, watchers: Sequence[Watcher], stop: StopSignal) -> None:
        self.store, self.tracker, self.watchers, self.stop = store, tracker, watchers, stop

    def run(self, pack: Pack, task: Task) -> list[Run]:
        """Train the trials of `pack`, store them and return what stands in each `run.json`."""
        if len(pack.trials) == 1:
            return [self._run_alone(pack.trials[0], task)]
        records = self._train(pack.trials, task)
        return [
            self._store_packed(trial, record, pack.alone_step_seconds)
            for trial, record in zip(pack.trials, records, strict=True)
        ]

    def _run_alone(self, trial: Trial, task: Task) -> Run:
        """One trial, mirrored live."""
        with self.store.draft(trial) as draft:
            mirror = open_run(self.tracker, trial, draft)
            watchers = [*self.watchers, mirror] if mirror else self.watchers
            (record,) = train([trial], task, watchers, self.stop)
            if mirror:
                mirror.finish(record.summary(), record.status)
            return self.store.save(trial, record, draft)

    def _train(self, trials: Sequence[Trial], task: Task) -> list[Record]:
        """Train trials as one ensemble; where memory does not suffice, half of them at a time."""
        records = train(trials, task, self.watchers, self.stop)
        if not any(record.message == OUT_OF_MEMORY for record in records):
            return records
        half = (len(trials) + 1) // 2
        if len(trials) == 1:
            return records
        log.warning("a pack of %d trials does not fit into memory: going on with packs of %d", len(trials), half)
        return self._train(trials[:half], task) + self._train(trials[half:], task)

    def _store_packed(self, trial: Trial, record: Record, alone_step_seconds: float | None) -> Run:
        """One trial of a pack, mirrored in bulk now that the pack is done."""
        record.alone_step_seconds = alone_step_seconds
        with self.store.draft(trial) as draft:
            mirror = open_run(self.tracker, trial, draft)
            if mirror:
                for row in record.rows:
                    mirror.on_row(record, row)
                mirror.finish(record.summary(), record.status)
            return self.store.save(trial, record, draft)


OUT_OF_MEMORY = "out of memory"


def train(trials: Sequence[Trial], task: Task, watchers: Sequence[Watcher], stop: StopSignal) -> list[Record]:
    """Train trials together. Whatever happens, each comes back with a status; a fault of the code is `failed`."""
    configs = [trial.config for trial in trials]
    records = [Record(config, pack_size=len(configs)) for config in configs]
    schedule = build_schedule(configs[0].schedule, configs[0].task.steps)
    try:
        learner: Learner = PlainLearner(task, configs[0]) if len(configs) == 1 else Ensemble(task, configs)
        TrainingLoop(learner, records, schedule, watchers, stop).run()
    except Exception as error:
        log.debug("training failed", exc_info=True)
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
        for record in records:
            if record.status == "running":
                record.status = "failed"
                record.message = OUT_OF_MEMORY if is_out_of_memory(error) else message
    return records


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the device or of the machine, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)
