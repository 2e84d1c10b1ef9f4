"""Losses, metrics, lr and step timings to wandb. Tracking never asks, never blocks and never fails a training."""

import logging
import math
import netrc
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlparse

from torch import Tensor

from bench.config.schema import TrackerConfig
from bench.errors import ConfigError
from bench.runs.schema import Run
from bench.runs.trial import Trial
from bench.training.record import FINISHED, Record, Row

log = logging.getLogger(__name__)
TIMEOUT = 20.0  # seconds that a silent server may cost, once in a process
_silent_servers: set[str] = set()


class WandbRun:
    """One wandb run; after its first failure it only stays quiet.

    Args:
        tracker: the tracker's options, see conf/tracker/wandb.yaml.
        folder: where wandb keeps its files.
        identity: `name`, `group`, `tags` and `config` of the run.
    """

    def __init__(self, tracker: TrackerConfig, folder: Path, **identity: Any) -> None:
        self._run: Any = None
        place = {"project": tracker.project, "entity": tracker.entity, "dir": folder}
        with self._never_fails():
            try:
                self._run = _init_wandb(wandb_mode(), **place, **identity)
            except Exception as error:
                if wandb_mode() != "online":
                    raise
                _go_offline(str(error))
                self._run = _init_wandb("offline", **place, **identity)

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
                started = time.monotonic()
                self._run.summary.update({**summary, "status": status})
                self._run.finish(exit_code=0 if status in FINISHED else 1)
                if time.monotonic() - started >= TIMEOUT:
                    _go_offline("it takes too long to finish a run")

    @contextmanager
    def _never_fails(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._run = None
            log.warning("wandb failed and is left out of this run: %s: %s", type(error).__name__, error)


def _init_wandb(mode: Literal["online", "offline", "disabled"], **options: Any) -> Any:
    import wandb

    settings = wandb.Settings(
        silent=True, console="off", init_timeout=TIMEOUT, finish_timeout=TIMEOUT, x_disable_stats=True
    )
    return wandb.init(**options, mode=mode, reinit="create_new", settings=settings)


def _go_offline(reason: str) -> None:
    """Keep all further runs of this process on disk: a server that is down must not cost every trial its timeout."""
    _silent_servers.add(_server())
    text = "the wandb server %s does not answer (%s): runs are kept on disk from now on; `wandb sync` sends them"
    log.warning(text, _server(), reason.partition("\n")[0])


def open_run(tracker: TrackerConfig, trial: Trial, folder: Path) -> WandbRun | None:
    """The wandb run of one trial, or None where the tracker is `none` or keeps one run per sweep."""
    if tracker.name == "none" or (trial.sweep is not None and tracker.runs == "sweep"):
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


def track_sweep(tracker: TrackerConfig, trial: Trial, runs: Sequence[Run], folder: Path) -> None:
    """One wandb run for a whole sweep, with a table of its trials, where the tracker is set to that.

    Args:
        tracker: the tracker's options.
        trial: any trial of the sweep.
        runs: its runs.
        folder: where wandb keeps its files.
    """
    if tracker.name == "none" or trial.sweep is None or tracker.runs != "sweep":
        return
    optimizer, task = trial.config.optimizer.name, trial.config.task.name
    mirror = WandbRun(tracker, folder, name=f"{optimizer}-{task}-{trial.sweep}", tags=[optimizer, task, trial.sweep])
    rows = [
        {
            "run_id": run.run_id,
            "status": run.status,
            **(run.sweep.cell if run.sweep else {}),
            **run.summary.model_dump(),
        }
        for run in runs
    ]
    mirror.log_table("trials", rows)
    mirror.finish({"num_trials": len(runs)}, "completed")


def check_tracker(tracker: TrackerConfig) -> None:
    """Raises ConfigError where wandb is asked for but not installed."""
    if tracker.name == "none":
        return
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise ConfigError("tracker", "wandb", "not installed: pip install wandb, or use tracker=none") from error


def wandb_mode() -> Literal["online", "offline", "disabled"]:
    """`online` where the user is logged in or has set a key and the server answers, else `offline`; WANDB_MODE wins."""
    if _server() in _silent_servers:
        return "offline"
    if (mode := os.environ.get("WANDB_MODE")) in ("online", "offline", "disabled"):
        return cast(Literal["online", "offline", "disabled"], mode)
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = urlparse(_server()).hostname or ""
    try:
        return "online" if netrc.netrc(os.environ.get("NETRC")).authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
