"""How many trials train together and how many packs side by side: chosen by measurement, unless asked for."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from bench.jobs.calibration import Calibration
from bench.jobs.packing import Pack, cut_into_packs, group_by_structure, reason_alone
from bench.jobs.plan import Plan
from bench.runs.folders import ResultsFolder
from bench.training.checkpoint import find_checkpointed

WORKER_START_SECONDS = 5.0  # imports and loading the data, in a worker


def choose_packs(plan: Plan, calibration: Calibration) -> tuple[list[Pack], float]:
    """The packs that train what is missing, and the seconds that they will take by what was measured."""
    packs = list(_find_begun(plan, calibration))
    begun = {trial.run_id for pack in packs for trial in pack.trials}
    seconds = 0.0
    for trials in group_by_structure([trial for trial in plan.missing if trial.run_id not in begun]):
        config = trials[0].config
        if len(trials) == 1:
            packs += cut_into_packs(trials, 1)
            continue
        task = plan.tasks.get(config.task, config.device)
        alone = calibration.step_cost(task, trials[0])
        size, trial_step_seconds = plan.session.pack_size or 1, alone.seconds
        if plan.session.pack_size is None and reason_alone(config.optimizer) is None:
            size, pack_step_seconds = calibration.pack_size(task, trials)
            trial_step_seconds = pack_step_seconds / size
        packs += [replace(pack, alone_step_seconds=alone.seconds) for pack in cut_into_packs(trials, size)]
        seconds += len(trials) * config.task.steps * trial_step_seconds
    return packs, seconds


def _find_begun(plan: Plan, calibration: Calibration) -> Iterator[Pack]:
    """Packs that an earlier job has begun: they go on from their checkpoints, as they were."""
    trials = {trial.run_id: trial for trial in plan.trials}
    missing = {trial.run_id for trial in plan.missing}
    if plan.session.force or plan.session.checkpoint_every is None:
        return
    for run_ids in find_checkpointed(ResultsFolder(plan.session.results_dir).checkpoints, trials):
        if missing.intersection(run_ids):
            pack = tuple(trials[run_id] for run_id in run_ids)
            task = plan.tasks.get(pack[0].config.task, pack[0].config.device)
            alone = calibration.step_cost(task, pack[0]).seconds if len(pack) > 1 else None
            yield Pack(pack, reason_alone(pack[0].config.optimizer), alone)


def choose_workers(plan: Plan, packs: list[Pack], seconds: float, calibration: Calibration) -> int:
    """How many processes train packs side by side: as asked for, or one per GPU, or on a CPU what measures best.

    On a CPU, one-thread workers beat one process with all threads where packs use the threads badly, and where what
    they save pays for starting them.
    """
    if plan.session.workers is not None:
        return min(plan.session.workers, max(1, len(packs)))
    if len(packs) < 2:
        return 1
    config = packs[0].trials[0].config
    if torch.device(config.device).type == "cuda":
        return min(torch.cuda.device_count(), len(packs))
    num_threads = torch.get_num_threads()
    if num_threads < 2 or seconds < 2 * WORKER_START_SECONDS:
        return 1
    gain = calibration.one_thread_cost(plan.tasks.get(config.task, config.device), packs[0].trials) / num_threads
    return num_threads if seconds * gain + WORKER_START_SECONDS < seconds else 1
