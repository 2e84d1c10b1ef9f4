"""Training a pack and storing its runs."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from bench.config.cadence import Cadence
from bench.config.session import SessionConfig
from bench.jobs.packing import Pack, with_companion
from bench.jobs.threads import use_threads
from bench.jobs.trackers.tracker import Mirror
from bench.runs.claims import Claims
from bench.runs.folders import ResultsFolder
from bench.runs.schema import Run
from bench.runs.store import Store
from bench.runs.trial import Trial
from bench.training.checkpoint import Checkpoint, find_checkpointed
from bench.training.components import Task, TaskShelf
from bench.training.interrupt import StopSignal
from bench.training.loop import Watcher
from bench.training.record import FINISHED, Record
from bench.training.train import OUT_OF_MEMORY, train

log = logging.getLogger(__name__)
WAIT_SECONDS = 1.0  # between two looks at what another process trains


class PackRunner:
    """Trains packs of one job and stores every trial as its own run.

    Args:
        session: where runs and checkpoints go, and what mirrors them.
        watchers: who sees them live.
        stop: asks for a stop at the next step.
        tasks: those that are loaded already; others join them.
    """

    def __init__(self, session: SessionConfig, watchers: Sequence[Watcher], stop: StopSignal, tasks: TaskShelf) -> None:
        self.session, self.watchers, self.stop, self.tasks = session, watchers, stop, tasks
        self.store, self.claims = Store(session.results_dir), Claims(session.results_dir)
        self.checkpoints = ResultsFolder(session.results_dir).checkpoints
        self.waiting = False

    def run(self, pack: Pack) -> tuple[list[Run], Pack | None]:
        """Train the trials of `pack` that no other process trains at this moment, on its threads, and store them.

        Returns:
            The runs, and the rest of the pack, to ask for again.
        """
        config = pack.trials[0].config
        with use_threads(pack.num_threads), self.claims.take([trial.run_id for trial in pack.trials]) as claimed:
            free = tuple(trial for trial in pack.trials if trial.run_id in claimed)
            runs = self._run_claimed(free, pack, self.tasks.get(config.task, config.device)) if free else []
        others = tuple(trial for trial in pack.trials if trial.run_id not in claimed)
        if others and not free:
            self._wait()
        return runs, replace(pack, trials=others) if others else None

    def _wait(self) -> None:
        if not self.waiting:
            log.warning("waiting for trials that another process is training")
        self.waiting = True
        end = time.monotonic() + WAIT_SECONDS
        while self.stop.number is None and time.monotonic() < end:
            time.sleep(0.1)

    def _run_claimed(self, claimed: Sequence[Trial], pack: Pack, task: Task) -> list[Run]:
        """Train those of a pack that are claimed, unless somebody has finished them since the plan was made."""
        finished = [] if self.session.force else self._find_finished(claimed)
        finished_ids = {run.run_id for run in finished}
        missing = [trial for trial in claimed if trial.run_id not in finished_ids]
        trained = self._train_and_store(missing, self._together(missing, claimed, pack), task) if missing else []
        if all(run.status in FINISHED for run in trained):
            self._forget([trial.run_id for trial in claimed])
        return finished + trained

    def _find_finished(self, trials: Sequence[Trial]) -> list[Run]:
        return [run for run in map(self.store.find_finished, trials) if run is not None]

    def _together(self, missing: Sequence[Trial], claimed: Sequence[Trial], pack: Pack) -> Pack:
        """The trials to train so that the missing ones come out as they would in the whole pack.

        A checkpoint goes on with all the trials it has.
        """
        checkpoint = self._checkpoint(claimed)
        if checkpoint is not None and self.session.force:
            checkpoint.remove()
        if checkpoint is not None and checkpoint.path.exists():
            return replace(pack, trials=tuple(claimed))
        return replace(pack, trials=with_companion(missing, pack.trials))

    def _train_and_store(self, missing: Sequence[Trial], pack: Pack, task: Task) -> list[Run]:
        with Mirror(self.session.tracker, missing, self.session.results_dir) as mirror:
            if len(pack.trials) == 1:
                return [self._run_alone(pack.trials[0], task, mirror)]
            run_ids = [trial.run_id for trial in pack.trials]
            records = dict(zip(run_ids, self._train(pack.trials, task, mirror), strict=True))
            for trial in missing:
                records[trial.run_id].alone_step_seconds = pack.alone_step_seconds
            return [self._store_packed(trial, records[trial.run_id], mirror) for trial in missing]

    def _run_alone(self, trial: Trial, task: Task, mirror: Mirror) -> Run:
        with self.store.draft(trial) as draft:
            (record,) = self._train([trial], task, mirror)
            run = self.store.save(trial, record, draft)
        mirror.finish(trial, run)
        return run

    def _store_packed(self, trial: Trial, record: Record, mirror: Mirror) -> Run:
        with self.store.draft(trial) as draft:
            run = self.store.save(trial, record, draft)
        mirror.finish(trial, run)
        return run

    def _train(self, trials: Sequence[Trial], task: Task, mirror: Mirror) -> list[Record]:
        """Train trials together; where memory does not suffice, half of them at a time.

        A pack that fails in any other way has its trials trained one by one: an optimizer or a model may do after many
        steps what cannot be packed.
        """
        watchers, checkpoint = [*self.watchers, mirror], self._checkpoint(trials)
        configs, keep = [trial.config for trial in trials], self.session.save_weights
        records = train(configs, task, watchers, self.stop, checkpoint, keep_weights=keep)
        failed = [record.message for record in records if record.status == "failed"]
        if len(trials) == 1 or not failed:
            return records
        if OUT_OF_MEMORY not in failed:
            log.warning("a pack of %d trials failed (%s): training them one by one", len(trials), failed[0])
            return [record for trial in trials for record in self._train([trial], task, mirror)]
        half = (len(trials) + 1) // 2
        log.warning("a pack of %d trials does not fit into memory: going on with packs of %d", len(trials), half)
        return self._train(trials[:half], task, mirror) + self._train(trials[half:], task, mirror)

    def _checkpoint(self, trials: Sequence[Trial]) -> Checkpoint | None:
        cadence = self.session.checkpoint_every
        return None if cadence is None else Checkpoint(self.checkpoints, [t.run_id for t in trials], cadence)

    def _forget(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints of trials that are stored now."""
        for pack in find_checkpointed(self.checkpoints, run_ids):
            Checkpoint(self.checkpoints, pack, Cadence()).remove()
