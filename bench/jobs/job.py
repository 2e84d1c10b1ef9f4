"""One job: a composed configuration from its plan to its runs, its table and its objective."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from bench.config.sweep import SweepConfig
from bench.errors import JobFailedError, StoreError
from bench.jobs.calibration import Calibration
from bench.jobs.objective import objective_of, rank_cells
from bench.jobs.plan import Plan, make_plan, with_cell
from bench.jobs.progress import Display
from bench.jobs.sizing import choose_packs, choose_workers
from bench.jobs.summary import print_plan, print_summary
from bench.jobs.tracker import track_sweep
from bench.jobs.workers import run_packs
from bench.runs.folders import ResultsFolder
from bench.runs.schema import Run
from bench.runs.store import Store
from bench.training.interrupt import StopSignal

log = logging.getLogger(__name__)


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
    calibration = Calibration(ResultsFolder(plan.session.results_dir).calibration)
    packs, seconds = choose_packs(plan, calibration)
    workers = choose_workers(plan, packs, seconds, calibration)
    if plan.session.dry_run or plan.absent or len(plan.trials) > 1:
        print_plan(plan, packs, seconds, workers)
    if plan.session.dry_run:
        return math.nan
    runs = dict(plan.finished)
    steps = {trial.run_id: trial.config.task.steps for trial in plan.missing}
    with StopSignal() as stop, Display(steps) as display:
        try:
            for run in run_packs(packs, plan, workers, display, stop):
                runs[run.run_id] = run
        except StoreError as error:
            kept = f"{len(runs)} of {len(plan.trials)} trials are stored; the same command goes on from there"
            raise StoreError(f"{error}; {kept}") from error
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
    return run_job({**with_cell(mapping, best[0].cell), "sweep": fresh})


def _exit_unless_fine(runs: list[Run], plan: Plan, stop: StopSignal) -> None:
    if stop.number is not None:
        kept = sum(run.status != "interrupted" for run in runs)
        log.warning("stopped: %d of %d trials are finished; the same command goes on from here", kept, len(plan.trials))
        raise SystemExit(128 + stop.number)
    failed = [run for run in runs if run.status == "failed"]
    if failed:
        raise JobFailedError(f"{len(failed)} of {len(runs)} trials failed, the first: {failed[0].summary.message}")
