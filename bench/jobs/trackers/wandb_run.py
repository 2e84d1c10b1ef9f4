"""wandb runs: one per trial, or one per sweep, and one that holds the report."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.config.session import TrackerConfig
from bench.jobs.trackers.metrics import group_of, name_of
from bench.jobs.trackers.wandb_session import session
from bench.runs.identity import without_documentation
from bench.runs.schema import Run, Status
from bench.runs.trial import Trial
from bench.training.record import FINISHED

WITHOUT_SUMMARY = (  # wandb would write their last values after every row
    "time/train_seconds",
    "time/elapsed_seconds",
    "time/steps_per_second",
    "train/samples",
    "train/tokens",
)


class WandbRun:
    """The wandb run of one trial. The trial's id is the run's, so that a trial begun again is the same run, resumed.

    Args:
        config: the tracker's options.
        trial: what is mirrored.
        folder: the results folder.
    """

    def __init__(self, config: TrackerConfig, trial: Trial, folder: Path) -> None:
        forget_offline(folder, trial.run_id)
        settings = session().settings
        optimizer, task = trial.config.optimizer.name, trial.config.task.name
        sweep = {"name": trial.sweep, "stage": trial.stage, "replicate": trial.replicate}
        self.run = session().init(
            config,
            folder,
            is_agents=trial.sweep is None,
            id=trial.run_id,
            name=name_of(trial, config.name or settings.run_name),
            group=config.group or settings.run_group or group_of(trial),
            job_type=settings.run_job_type or "train",
            tags=_tags(config, optimizer, task, trial.sweep),
            config={
                **without_documentation(trial.config.mapping),
                "run_id": trial.run_id,
                "cell": dict(trial.cell),
                "sweep": sweep if trial.sweep else None,
                "fingerprint": trial.fingerprint.model_dump(),
            },
        )
        self.resumed_at = int(self.run.summary.get("train/step", -1)) if self.run.resumed else -1
        target = trial.config.task.target
        summaries = {"val/loss": "min", "val/accuracy": "max", target.metric.replace("_", "/", 1): target.mode}
        self.run.define_metric("train/step", hidden=True)
        for name in WITHOUT_SUMMARY:
            self.run.define_metric(name, step_metric="train/step", summary="none")
        self.run.define_metric("*", step_metric="train/step")
        for name, kind in summaries.items():
            self.run.define_metric(name, step_metric="train/step", summary=f"{kind},last")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step > self.resumed_at:
            self.run.log(dict(values), step=step)

    def finish(self, summary: Mapping[str, float | str | None], status: Status) -> None:
        self.run.summary.update(dict(summary))
        session().finish(self.run, 0 if status in FINISHED else 1)


def forget_offline(folder: Path, run_id: str) -> None:
    """Remove what was kept on disk of an earlier run of this trial: the new one tells all of it again."""
    for path in folder.glob(f"wandb/offline-run-*-{run_id}"):
        shutil.rmtree(path, ignore_errors=True)


def _tags(config: TrackerConfig, *tags: str | None) -> list[str]:
    return list(dict.fromkeys(filter(None, (*tags, *config.tags, *(session().settings.run_tags or ())))))


def log_sweep(config: TrackerConfig, trial: Trial, runs: Sequence[Run], objective: float, folder: Path) -> None:
    """One wandb run for a whole sweep: a table of its trials, and the objective that an agent's sweep asks for.

    Args:
        config: the tracker's options.
        trial: any trial of the sweep.
        runs: all of them.
        objective: what the sweep goes by, mean over seeds, of the best cell.
        folder: the results folder.
    """
    import wandb

    optimizer, task = trial.config.optimizer.name, trial.config.task.name
    run = session().init(
        config,
        folder,
        is_agents=True,
        name=config.name or session().settings.run_name or f"{optimizer}-{task}-{trial.sweep}",
        group=config.group or f"{optimizer}-{task}",
        job_type="sweep",
        tags=_tags(config, optimizer, task, trial.sweep),
    )
    rows = [{"run_id": r.run_id, "status": r.status, "seed": r.seed, **r.cell, **r.summary.figures} for r in runs]
    columns: list[str | int] = list(dict.fromkeys(name for row in rows for name in row))
    run.log({"trials": wandb.Table(columns=columns, data=[[row.get(str(name)) for name in columns] for row in rows])})
    run.summary.update({"num_trials": len(runs), "objective": objective})
    session().finish(run, 0)


def log_report(config: TrackerConfig, folder: Path, report: Path) -> None:
    """The report on a results folder, its plots and its tables, as an artifact of a wandb run of its own."""
    import wandb

    run = session().init(config, folder, is_agents=False, name="report", job_type="report", tags=_tags(config))
    artifact = wandb.Artifact("report", type="report")
    artifact.add_dir(str(report))
    run.log_artifact(artifact)
    session().finish(run, 0)
