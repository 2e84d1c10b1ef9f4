"""How many trials train together, on how many threads, and how many packs side by side: measured, unless asked for."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from bench.config.session import SessionConfig
from bench.jobs.calibration import Calibration
from bench.jobs.cluster import count_workers
from bench.jobs.packing import Pack, cut_into_packs, group_by_structure, structure, with_companion
from bench.jobs.processes import prepare_workers
from bench.jobs.proofs import Proofs
from bench.jobs.threads import most_threads, threads_for, use_threads
from bench.runs.folders import ResultsFolder
from bench.runs.trial import Trial
from bench.training.checkpoint import find_checkpointed
from bench.training.components import Task, TaskShelf

SPEEDUP_OF_PACKS = 4.0  # at most, about
WORKER_START_SECONDS = 3.0  # the imports of the server that workers are forked from, and loading the data


@dataclass(frozen=True)
class Packing:
    """How trials train.

    Attributes:
        packs: which train together.
        seconds: what they will take by what was measured.
        workers: how many processes train packs side by side.
    """

    packs: list[Pack]
    seconds: float
    workers: int


def choose_packing(
    trials: Sequence[Trial], missing: Sequence[Trial], session: SessionConfig, tasks: TaskShelf
) -> Packing:
    """How the `missing` ones among `trials` are to train."""
    return _Sizing(trials, missing, session, tasks).choose()


class _Sizing:
    def __init__(
        self, trials: Sequence[Trial], missing: Sequence[Trial], session: SessionConfig, tasks: TaskShelf
    ) -> None:
        self.trials, self.missing, self.session, self.tasks = trials, missing, session, tasks
        self.alike = {structure(group[0].config): group for group in group_by_structure(trials)}
        folder = ResultsFolder(session.results_dir).calibration
        self.calibration, self.proofs = Calibration(folder), Proofs(folder)
        self.num_threads = torch.get_num_threads()
        self.most_threads = most_threads(self.num_threads, len(trials), session.workers)

    def choose(self) -> Packing:
        """Packs that were begun as they are, all others by structure: together what is worth it."""
        packs = list(self._find_begun())
        begun = {trial.run_id for pack in packs for trial in pack.trials}
        groups = group_by_structure([trial for trial in self.missing if trial.run_id not in begun])
        whole = [self._whole(group) for group in groups]
        seconds = sum(of_group for _, _, of_group in whole)
        workers = self._choose_workers([pack for pack, _, _ in whole] + packs, seconds)
        for pack, size, _ in whole:
            cut = cut_into_packs(pack.trials, self._even(size, len(pack.trials), workers))
            packs += [replace(pack, trials=self._together(part.trials, size)) for part in cut]
        workers = min(workers, max(1, len(packs)))
        return Packing(packs, seconds / workers, workers)

    def _whole(self, group: Sequence[Trial]) -> tuple[Pack, int, float]:
        """The trials of one structure as a pack that is to be cut, into which size, and the seconds that they take."""
        task, threads = self._task(group[0]), self._threads(group[0])
        alike = self.alike[structure(group[0].config)]
        if len(alike) == 1 and self.most_threads == self.num_threads:
            return Pack(tuple(group), num_threads=threads), 1, 0.0
        num_steps = len(group) * group[0].config.task.steps
        with use_threads(threads):
            alone = self.calibration.step_cost(task, group[0])
            self._foresee_workers(num_steps * alone.seconds)
            reason = self.proofs.reason_alone(task, alike) if len(alike) > 1 else None
            size, step_seconds = 1, alone.seconds
            if len(alike) > 1 and reason is None:
                size, step_seconds = self._pack_size(task, alike, alone.seconds)
        return Pack(tuple(group), reason, alone.seconds, threads), size, num_steps * step_seconds

    def _foresee_workers(self, seconds_one_by_one: float) -> None:
        """Let workers begin to start while the rest is measured, where there will be some."""
        is_long = seconds_one_by_one > SPEEDUP_OF_PACKS * WORKER_START_SECONDS
        if is_long and self.most_threads < self.num_threads and self.session.workers is None:
            prepare_workers()

    def _pack_size(self, task: Task, alike: Sequence[Trial], alone_seconds: float) -> tuple[int, float]:
        """The pack size that was asked for, or the best, and the seconds of a step of each of its trials."""
        if self.session.pack_size is not None:
            return self.session.pack_size, alone_seconds
        size, seconds = self.calibration.pack_size(task, alike)
        return size, seconds / size

    def _together(self, trials: Sequence[Trial], size: int) -> tuple[Trial, ...]:
        """A part of the trials of one structure, none of them alone where they pack."""
        return tuple(trials) if size == 1 else with_companion(trials, self.alike[structure(trials[0].config)])

    def _find_begun(self) -> Iterator[Pack]:
        """Packs that an earlier job has begun: they go on from their checkpoints, as they were."""
        if self.session.force or self.session.checkpoint_every is None:
            return
        by_id = {trial.run_id: trial for trial in self.trials}
        missing_ids = {trial.run_id for trial in self.missing}
        for run_ids in find_checkpointed(ResultsFolder(self.session.results_dir).checkpoints, by_id):
            if missing_ids.intersection(run_ids):
                pack = tuple(by_id[run_id] for run_id in run_ids)
                threads = self._threads(pack[0])
                with use_threads(threads):
                    cost = self.calibration.step_cost(self._task(pack[0]), pack[0]) if len(pack) > 1 else None
                yield Pack(pack, None, cost.seconds if cost else None, threads)

    def _task(self, trial: Trial) -> Task:
        return self.tasks.get(trial.config.task, trial.config.device)

    def _threads(self, trial: Trial) -> int | None:
        """How many threads a trial gets on a CPU, alone and in packs: the same for each of its structure."""
        if torch.device(trial.config.device).type != "cpu" or self.num_threads == 1:
            return None
        return threads_for(self.calibration.gradient_flops(self._task(trial), trial), self.most_threads)

    def _even(self, size: int, num_trials: int, workers: int) -> int:
        """The size at which each worker gets as many packs, unless one was asked for; 1 would round otherwise."""
        if size == 1 or self.session.pack_size is not None or num_trials < 2 * workers:
            return size
        num_packs = math.ceil(math.ceil(num_trials / size) / workers) * workers
        return max(2, math.ceil(num_trials / num_packs))

    def _choose_workers(self, packs: Sequence[Pack], seconds: float) -> int:
        """How many processes train packs side by side: as asked for, or one per GPU, or on a CPU one per free thread.

        On a CPU as many as pay for their start. Raises ConfigError for a cluster that has none.
        """
        if isinstance(self.session.workers, str):
            return count_workers(self.session.workers) if packs else 1
        if self.session.workers is not None:
            return self.session.workers
        if not packs:
            return 1
        if torch.device(packs[0].trials[0].config.device).type == "cuda":
            return torch.cuda.device_count()
        workers = self.num_threads // max(pack.num_threads or 1 for pack in packs)
        return workers if seconds / max(1, workers) + WORKER_START_SECONDS < seconds else 1
