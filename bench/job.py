"""One job: a composed configuration from its plan to its runs, its table and its objective."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from bench.calibration import Calibration
from bench.display import Display
from bench.errors import JobFailedError
from bench.execution import Run
from bench.interrupt import StopSignal
from bench.objective import cell_of, objective_of, rank_cells
from bench.packing import Pack, cut_into_packs, group_by_structure, reason_alone
from bench.planning import Plan, make_plan, with_cell
from bench.store import Store
from bench.sweep import SweepConfig
from bench.tables import print_plan, print_summary
from bench.tracker import track_sweep
from bench.workers import run_packs

log = logging.getLogger(__name__)
WORKER_START_SECONDS = 5.0  # imports and loading the data, in a worker


def run_job(mapping: Mapping[str, Any]) -> float:
    """Train what is missing of the sweep that a resolved configuration asks for.

    Returns:
        The objective that Hydra's sweepers minimise: the final validation loss, mean over seeds, of the best cell.

    Raises:
        ConfigError: the configuration is wrong; nothing was trained or written.
        StoreError: the results folder cannot be written.
        JobFailedError: a trial failed; the others are stored.
        SystemExit: stopped by a signal, with the conventional code.
    """
    plan = make_plan(mapping)
    if not plan.session.dry_run:
        Store(plan.session.results_dir).check_writable()
    calibration = Calibration(plan.session.results_dir / ".calibration")
    packs, seconds = choose_packs(plan, calibration)
    workers = choose_workers(plan, packs, seconds, calibration)
    if plan.session.dry_run or len(plan.trials) > 1:
        print_plan(plan, packs, seconds, workers)
    if plan.session.dry_run:
        return math.nan
    runs = dict(plan.finished)
    with StopSignal() as stop, Display(len(plan.missing), _trial_steps(packs)) as display:
        for run in run_packs(packs, plan, workers, display, stop):
            runs[run["run_id"]] = run
    ordered = [runs[trial.run_id] for trial in plan.trials if trial.run_id in runs]
    if ordered:
        track_sweep(plan.session.tracker, plan.trials[0], ordered, plan.session.results_dir)
        print_summary(plan, ordered)
    _exit_unless_fine(ordered, plan, stop)
    if plan.sweep.fresh_seeds:
        return _confirm(mapping, plan.sweep, ordered)
    return objective_of(ordered)


def _confirm(mapping: Mapping[str, Any], sweep: SweepConfig, runs: list[Run]) -> float:
    """Train the best cell again on seeds that it was not chosen on, and return the objective there."""
    objective, best = rank_cells(runs)[0]
    if not math.isfinite(objective):
        return objective
    fresh: dict[str, Any] = {
        "name": "fresh_seeds",
        "axes": {"seed": list(sweep.fresh_seeds)},
        "search": None,
        "optional": [],
        "exclude": [],
        "fresh_seeds": [],
    }
    return run_job({**with_cell(mapping, cell_of(best[0])), "sweep": fresh})


def choose_packs(plan: Plan, calibration: Calibration) -> tuple[list[Pack], float]:
    """The packs that train what is missing, and the seconds that they will take by what was measured."""
    packs: list[Pack] = []
    seconds = 0.0
    for trials in group_by_structure(plan.missing):
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


def _trial_steps(packs: list[Pack]) -> int:
    return sum(trial.config.task.steps for pack in packs for trial in pack.trials)


def _exit_unless_fine(runs: list[Run], plan: Plan, stop: StopSignal) -> None:
    if stop.number is not None:
        kept = sum(run["status"] != "interrupted" for run in runs)
        log.warning("stopped: %d of %d trials are finished; the same command goes on from here", kept, len(plan.trials))
        raise SystemExit(128 + stop.number)
    failed = [run for run in runs if run["status"] == "failed"]
    if failed:
        raise JobFailedError(
            f"{len(failed)} of {len(runs)} trials failed, the first: {failed[0]['summary']['message']}"
        )
