"""One job: a composed configuration from its plan to its runs, its table and its objective."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.calibration import Calibration
from bench.display import Display
from bench.errors import JobFailedError
from bench.execution import Run
from bench.interrupt import StopSignal
from bench.packing import Pack, cut_into_packs, group_by_structure, reason_alone
from bench.planning import Plan, make_plan
from bench.store import Store
from bench.tables import objective_of, print_plan, print_summary
from bench.tracker import track_sweep
from bench.workers import run_packs

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
    packs, seconds = choose_packs(plan)
    if plan.session.dry_run or len(plan.trials) > 1:
        print_plan(plan, packs, seconds)
    if plan.session.dry_run:
        return math.nan
    Store(plan.session.results_dir).check_writable()
    runs = dict(plan.finished)
    with StopSignal() as stop, Display(len(plan.missing), _trial_steps(packs)) as display:
        for run in run_packs(packs, plan, display, stop):
            runs[run["run_id"]] = run
    ordered = [runs[trial.run_id] for trial in plan.trials if trial.run_id in runs]
    if ordered:
        track_sweep(plan.session.tracker, plan.trials[0], ordered, plan.session.results_dir)
        print_summary(plan, ordered)
    if plan.session.report:
        from bench.report import write_report

        log.warning("report: %s", write_report([plan.session.results_dir], plan.session.results_dir / "report"))
    _exit_unless_fine(ordered, plan, stop)
    return objective_of(ordered)


def choose_packs(plan: Plan) -> tuple[list[Pack], float]:
    """The packs that train what is missing, and the seconds that they will take by what was measured."""
    calibration = Calibration(plan.session.results_dir / ".calibration")
    packs: list[Pack] = []
    seconds = 0.0
    for trials in group_by_structure(plan.missing):
        config = trials[0].config
        if len(trials) == 1:
            packs += cut_into_packs(trials, 1)
            continue
        task = plan.tasks.get(config.task, config.device)
        alone = calibration.step_cost(task, trials[0])
        size, step_seconds = plan.session.pack_size, alone.seconds
        if size is None and reason_alone(config.optimizer) is None:
            size, step_seconds = calibration.pack_size(task, trials)
        cut = cut_into_packs(trials, size or 1)
        packs += [replace(pack, alone_step_seconds=alone.seconds) for pack in cut]
        seconds += len(trials) / (size or 1) * step_seconds * config.task.steps
    return packs, seconds


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
