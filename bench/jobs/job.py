"""One job: a composed configuration from its plan to its runs, its table and its objective."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.config.sweep import Stage
from bench.errors import JobFailedError, StoreError, count_of, shorten
from bench.jobs.plan import Plan, make_plan
from bench.jobs.progress import Display
from bench.jobs.summary import print_plan, print_summary
from bench.jobs.trackers.whole_job import track_job
from bench.jobs.workers import run_packs
from bench.runs.folders import WEIGHTS_FILE
from bench.runs.objective import objective_of
from bench.runs.schema import Run
from bench.runs.store import Store
from bench.training.interrupt import StopSignal

log = logging.getLogger(__name__)
MAX_NAME = 30
STAGE_NAMES: Mapping[Stage, str] = {"tuning": "tuning", "choosing": "finalists", "fresh": "fresh seeds"}


def run_job(mapping: Mapping[str, Any]) -> float:
    """Train what is missing of the sweep that a resolved configuration asks for.

    Returns:
        What Hydra's sweepers minimise: the objective of the best cell, mean over seeds.

    Raises:
        ConfigError: the configuration is wrong; nothing was trained or written.
        StoreError: the results folder cannot be written.
        JobFailedError: a trial failed; the others are stored.
        SystemExit: stopped by a signal, with the conventional code.
    """
    plan = make_plan(mapping)
    if plan.session.dry_run:
        for stage in plan.stages():
            print_plan(stage)
        return math.nan
    return objective_of(train_plan(plan, tell=True), plan.sweep.objective)


def train_plan(plan: Plan, *, tell: bool) -> list[Run]:
    """Train one stage after the other, each on what the ones before have shown.

    Args:
        plan: what to train.
        tell: whether to print every stage and the tables that end them.

    Returns:
        The runs of all stages, trained now or stored before.

    Raises:
        StoreError: the results folder cannot be written.
        JobFailedError: a trial failed; the others are stored.
        SystemExit: stopped by a signal, with the conventional code.
    """
    Store(plan.session.results_dir).check_writable()
    runs: list[Run] = []
    try:
        _train_stages(plan, runs, tell)
    finally:
        track_job(plan, runs)
    return runs


def _train_stages(plan: Plan, runs: list[Run], tell: bool) -> None:
    """Append what each stage has trained to `runs`, also where one stops or fails."""
    stage: Plan | None = plan
    while stage is not None:
        if tell and (stage.absent or len(stage.trials) > 1):
            print_plan(stage)
        trained, stop = _train_stage(stage)
        runs += trained
        _exit_unless_fine(trained, stage, stop)
        following = stage.follow(runs)
        if tell and (following is None or following.stage == "fresh"):
            print_summary(stage, [run for run in runs if (run.stage == "fresh") == (stage.stage == "fresh")])
        stage = following


def _train_stage(plan: Plan) -> tuple[list[Run], StopSignal]:
    runs = dict(plan.finished)
    bare = sum(WEIGHTS_FILE not in run.files for run in runs.values())
    if plan.session.save_weights and bare:
        log.warning("stored without weights: %s; force=true trains again", count_of(bare, "finished run"))
    packing = plan.packing
    steps = {trial.run_id: trial.config.task.steps for trial in plan.missing}
    with StopSignal() as stop, Display(steps, _name_stage(plan)) as display:
        try:
            for run in run_packs(packing.packs, plan, packing.workers, display, stop):
                runs[run.run_id] = run
        except StoreError as error:
            num_stored = sum(Store(plan.session.results_dir).find_finished(trial) is not None for trial in plan.trials)
            kept = f"{num_stored} of {count_of(len(plan.trials), 'trial')} stored; the same command goes on from there"
            raise StoreError(f"{error}; {kept}") from error
    return [runs[trial.run_id] for trial in plan.trials if trial.run_id in runs], stop


def _name_stage(plan: Plan) -> str:
    """Task and optimizer, and of a sweep with several stages which one it is, short enough to stand in every line."""
    config = plan.trials[0].config
    name = shorten(f"{config.task.name} {config.optimizer.name}", MAX_NAME)
    return f"{name}, {STAGE_NAMES[plan.stage]}" if plan.sweep.search or plan.sweep.fresh_seeds else name


def _exit_unless_fine(runs: Sequence[Run], plan: Plan, stop: StopSignal) -> None:
    failed = [run for run in runs if run.status == "failed"]
    if failed or (stop.number is not None and any(run.status != "interrupted" for run in runs)):
        print_summary(plan, runs)
    if stop.number is not None:
        kept = sum(run.status != "interrupted" for run in runs)
        told = f"{kept} of {count_of(len(plan.trials), 'trial')} finished"
        log.warning("stopped: %s; the same command goes on from here", told)
        raise SystemExit(128 + stop.number)
    if failed:
        first = failed[0].summary.message
        raise JobFailedError(f"{len(failed)} of {count_of(len(runs), 'trial')} failed, the first: {first}")
