"""How many trials train together and how many packs side by side: chosen by measurement, unless asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from bench.config.schema import SessionConfig
from bench.jobs.calibration import Calibration
from bench.jobs.packing import Pack, cut_into_packs, group_by_structure, structure, with_companion
from bench.jobs.proofs import Proofs
from bench.runs.folders import ResultsFolder
from bench.runs.trial import Trial
from bench.training.checkpoint import find_checkpointed
from bench.training.components import Task, TaskShelf

WORKER_START_SECONDS = 5.0  # imports and loading the data, in a worker


@dataclass(frozen=True)
class Packing:
    """How trials train.

    Attributes:
        packs: which train together.
        seconds: what they will take by what was measured, one pack after the other.
        workers: how many processes train packs side by side.
    """

    packs: list[Pack]
    seconds: float
    workers: int


def choose_packing(
    trials: Sequence[Trial], missing: Sequence[Trial], session: SessionConfig, tasks: TaskShelf
) -> Packing:
    """How the `missing` ones among `trials` are to train."""
    folder = ResultsFolder(session.results_dir).calibration
    calibration, proofs = Calibration(folder), Proofs(folder)
    packs = list(_find_begun(trials, missing, session, tasks, calibration))
    begun = {trial.run_id for pack in packs for trial in pack.trials}
    seconds = 0.0
    for group in group_by_structure([trial for trial in missing if trial.run_id not in begun]):
        config = group[0].config
        task = tasks.get(config.task, config.device)
        if len(group) == 1:
            packs.append(_single(group[0], trials, session, task, proofs))
            continue
        alone = calibration.step_cost(task, group[0])
        reason = proofs.reason_alone(task, group)
        size, trial_step_seconds = (session.pack_size or 1) if reason is None else 1, alone.seconds
        if session.pack_size is None and reason is None:
            size, pack_step_seconds = calibration.pack_size(task, group)
            trial_step_seconds = pack_step_seconds / size
        cut = cut_into_packs(group, size)
        packs += [replace(pack, reason=reason, alone_step_seconds=alone.seconds) for pack in cut]
        seconds += len(group) * config.task.steps * trial_step_seconds
    return Packing(packs, seconds, _choose_workers(packs, seconds, session, tasks, calibration))


def _single(trial: Trial, trials: Sequence[Trial], session: SessionConfig, task: Task, proofs: Proofs) -> Pack:
    """The pack of the only missing trial of its structure."""
    alike = [other for other in trials if structure(other.config) == structure(trial.config)]
    if len(alike) == 1 or session.pack_size in (None, 1):
        return Pack((trial,))
    reason = proofs.reason_alone(task, alike)
    return Pack(with_companion([trial], alike) if reason is None else (trial,), reason)


def _find_begun(
    trials: Sequence[Trial],
    missing: Sequence[Trial],
    session: SessionConfig,
    tasks: TaskShelf,
    calibration: Calibration,
) -> Iterator[Pack]:
    """Packs that an earlier job has begun: they go on from their checkpoints, as they were."""
    if session.force or session.checkpoint_every is None:
        return
    by_id = {trial.run_id: trial for trial in trials}
    missing_ids = {trial.run_id for trial in missing}
    for run_ids in find_checkpointed(ResultsFolder(session.results_dir).checkpoints, by_id):
        if missing_ids.intersection(run_ids):
            pack = tuple(by_id[run_id] for run_id in run_ids)
            task = tasks.get(pack[0].config.task, pack[0].config.device)
            alone = calibration.step_cost(task, pack[0]).seconds if len(pack) > 1 else None
            yield Pack(pack, alone_step_seconds=alone)


def _choose_workers(
    packs: Sequence[Pack], seconds: float, session: SessionConfig, tasks: TaskShelf, calibration: Calibration
) -> int:
    """How many processes train packs side by side: as asked for, or one per GPU, or on a CPU what measures best.

    On a CPU, one-thread workers beat one process with all threads where packs use the threads badly, and where what
    they save pays for starting them.
    """
    if session.workers is not None:
        return min(session.workers, max(1, len(packs)))
    if len(packs) < 2:
        return 1
    config = packs[0].trials[0].config
    if torch.device(config.device).type == "cuda":
        return min(torch.cuda.device_count(), len(packs))
    num_threads = torch.get_num_threads()
    if num_threads < 2 or seconds < 2 * WORKER_START_SECONDS:
        return 1
    gain = calibration.one_thread_cost(tasks.get(config.task, config.device), packs[0].trials) / num_threads
    return num_threads if seconds * gain + WORKER_START_SECONDS < seconds else 1
