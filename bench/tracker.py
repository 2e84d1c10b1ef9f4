"""Losses, metrics, lr and step timings to wandb. Tracking never asks, never blocks and never fails a training."""

import logging
import math
import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlparse

from torch import Tensor

from bench.config import TrackerConfig
from bench.errors import ConfigError
from bench.record import FINISHED, Record, Row
from bench.section import Section
from bench.trial import Trial

log = logging.getLogger(__name__)
INIT_TIMEOUT, FINISH_TIMEOUT = 20.0, 60.0  # seconds that a silent server may cost


class WandbRun:
    """One wandb run; after its first failure it only stays quiet.

    Args:
        tracker: the tracker's options, see conf/tracker/wandb.yaml.
        folder: where wandb keeps its files.
        identity: `name`, `group`, `tags` and `config` of the run.
    """

    def __init__(self, tracker: TrackerConfig, folder: Path, **identity: Any) -> None:
        self._run: Any = None
        with self._never_fails():
            import wandb

            settings = wandb.Settings(
                silent=True,
                console="off",
                init_timeout=INIT_TIMEOUT,
                finish_timeout=FINISH_TIMEOUT,
                x_disable_stats=True,
            )
            place = {"project": tracker.options["project"], "entity": tracker.options["entity"], "dir": folder}
            self._run = wandb.init(**place, **identity, mode=wandb_mode(), reinit="create_new", settings=settings)

    def on_step(self, records: Sequence[Record], step: int, losses: Tensor) -> None:
        """Steps are not logged, only evaluations."""

    def on_row(self, record: Record, row: Row) -> None:
        with self._never_fails():
            if self._run is not None:
                values = {name: value for name, value in row.items() if name != "step" and not math.isnan(value)}
                self._run.log(values, step=int(row["step"]))

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows with equal keys as one table."""
        with self._never_fails():
            if self._run is not None:
                import wandb

                columns: list[str | int] = list(rows[0])
                data: list[Any] = [[row[str(column)] for column in columns] for row in rows]
                self._run.log({name: wandb.Table(columns=columns, data=data)})

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Write the summary and close the run."""
        with self._never_fails():
            if self._run is not None:
                self._run.summary.update({**summary, "status": status})
                self._run.finish(exit_code=0 if status in FINISHED else 1)

    @contextmanager
    def _never_fails(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._run = None
            log.warning("wandb failed and is left out of this run: %s: %s", type(error).__name__, error)


def open_run(tracker: TrackerConfig, trial: Trial, folder: Path) -> WandbRun | None:
    """The wandb run of one trial, or None where the tracker is `none` or keeps one run per sweep."""
    if tracker.name == "none" or (trial.sweep is not None and tracker.options["runs"] == "sweep"):
        return None
    optimizer, task = trial.config.optimizer.name, trial.config.task.name
    return WandbRun(
        tracker,
        folder,
        name=f"{optimizer}-{task}-{trial.run_id[:6]}",
        group=trial.sweep,
        tags=[optimizer, task],
        config={**trial.config.mapping, "run_id": trial.run_id, "cell": dict(trial.cell)},
    )


def track_sweep(tracker: TrackerConfig, trial: Trial, runs: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """One wandb run for a whole sweep, with a table of its trials, where the tracker is set to that.

    Args:
        tracker: the tracker's options.
        trial: any trial of the sweep.
        runs: what stands in each `run.json`.
        folder: where wandb keeps its files.
    """
    if tracker.name == "none" or trial.sweep is None or tracker.options["runs"] != "sweep":
        return
    optimizer, task = trial.config.optimizer.name, trial.config.task.name
    mirror = WandbRun(tracker, folder, name=f"{optimizer}-{task}-{trial.sweep}", tags=[optimizer, task, trial.sweep])
    rows = [
        {"run_id": run["run_id"], "status": run["status"], **run["sweep"]["cell"], **run["summary"]} for run in runs
    ]
    mirror.log_table("trials", rows)
    mirror.finish({"num_trials": len(runs)}, "completed")


def check_tracker(tracker: TrackerConfig) -> None:
    """Raises ConfigError for a wrong option, and where wandb is asked for but not installed."""
    if tracker.name == "none":
        return
    section = Section(tracker.options, "tracker")
    section.take_name("project")
    if not isinstance(entity := section.take("entity"), str | None):
        raise ConfigError("tracker.entity", entity, "expected a name or null")
    section.take_choice("runs", ("trial", "sweep"))
    section.finish()
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise ConfigError("tracker", "wandb", "not installed: pip install wandb, or use tracker=none") from error


def wandb_mode() -> Literal["online", "offline", "disabled"]:
    """`online` where the user is logged in or has set a key, else `offline`; WANDB_MODE wins."""
    if (mode := os.environ.get("WANDB_MODE")) in ("online", "offline", "disabled"):
        return cast(Literal["online", "offline", "disabled"], mode)
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return "online" if netrc.netrc(os.environ.get("NETRC")).authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"
