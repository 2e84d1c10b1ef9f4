"""What trackers are told once a job is over: its sweep as a whole, and how to send what was kept on disk."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.config.session import TrackerConfig
from bench.jobs.plan import Plan
from bench.jobs.trackers.tracker import Mirror, quiet
from bench.runs.folders import read_rows
from bench.runs.objective import objective_of
from bench.runs.schema import Run
from bench.training.record import Record

log = logging.getLogger(__name__)


def track_job(plan: Plan, runs: Sequence[Run]) -> None:
    """Mirror what belongs to no trial in training.

    That is the table of a sweep where the tracker keeps one run per sweep, and the run that `wandb agent` waits for
    where the job has many trials, or one that was found finished.
    """
    config, folder = plan.session.tracker, plan.session.results_dir
    trial, has_agent = plan.trials[0], "WANDB_SWEEP_ID" in os.environ
    were_there = all(run.run_id in plan.finished for run in runs)
    if runs and were_there and config.has_any and config.runs == "trial" and not has_agent:
        log.warning("all trials were stored before: no tracker is told of them again (force=true trains and tells)")
        return
    for name in ("csv", "tensorboard") if runs else ():
        if getattr(config, name):
            log.warning("%s: %s", name, folder / name)
    if not config.wandb or not runs:
        return
    if trial.sweep is not None and (config.runs == "sweep" or has_agent):
        from bench.jobs.trackers.wandb_run import log_sweep

        with quiet("wandb"):
            log_sweep(config, trial, runs, objective_of(runs, plan.sweep.objective), folder)
    elif trial.sweep is None and has_agent and trial.run_id in plan.finished:
        _replay(plan, runs[0])
    if any(folder.glob("wandb/offline-run-*")):
        log.warning("wandb is offline; this sends its runs: wandb sync %s/wandb/offline-run-*", folder)


def _replay(plan: Plan, run: Run) -> None:
    trial = plan.trials[0]
    with Mirror(plan.session.tracker, [trial], plan.session.results_dir) as mirror:
        for row in read_rows(run):
            mirror.on_row(Record(trial.config), row)
        mirror.finish(trial, run)


def track_report(mapping: Any, results_dir: Path, report: Path) -> None:
    """Mirror the report on a results folder; `mapping` is the tracker's part of a configuration, checked already."""
    config = TrackerConfig.model_validate(mapping)
    if config.wandb:
        from bench.jobs.trackers.wandb_run import log_report

        with quiet("wandb"):
            log_report(config, results_dir, report)
