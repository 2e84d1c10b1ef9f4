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
from bench.record import Record, Row
from bench.section import Section
from bench.trial import Trial

log = logging.getLogger(__name__)
INIT_TIMEOUT, FINISH_TIMEOUT = 20.0, 60.0  # seconds that a silent server may cost


class WandbRun:
    """One wandb run that mirrors one trial; after its first failure it only stays quiet.

    Args:
        options: `project`, `entity` and `runs` of conf/tracker/wandb.yaml.
        trial: the trial.
        folder: where wandb keeps its files.
    """

    def __init__(self, options: Mapping[str, Any], trial: Trial, folder: Path) -> None:
        self._run: Any = None
        with self._never_fails():
            self._run = self._init(options, trial, folder)

    def _init(self, options: Mapping[str, Any], trial: Trial, folder: Path) -> Any:
        import wandb

        config = trial.config
        return wandb.init(
            project=options["project"],
            entity=options["entity"],
            dir=folder,
            name=f"{config.optimizer.name}-{config.task.name}-{trial.run_id[:6]}",
            group=trial.sweep,
            tags=[config.optimizer.name, config.task.name],
            config={**config.mapping, "run_id": trial.run_id, "cell": dict(trial.cell)},
            mode=wandb_mode(),
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=INIT_TIMEOUT,
                finish_timeout=FINISH_TIMEOUT,
                x_disable_stats=True,
            ),
        )

    def on_step(self, records: Sequence[Record], step: int, losses: Tensor) -> None:
        """Steps are not logged, only evaluations."""

    def on_row(self, record: Record, row: Row) -> None:
        with self._never_fails():
            if self._run is not None:
                values = {name: value for name, value in row.items() if name != "step" and not math.isnan(value)}
                self._run.log(values, step=int(row["step"]))

    def finish(self, record: Record) -> None:
        """Write the summary and close the run."""
        with self._never_fails():
            if self._run is not None:
                self._run.summary.update({**record.summary(), "status": record.status})
                self._run.finish(exit_code=0 if record.status in ("completed", "diverged") else 1, quiet=True)

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
    return WandbRun(tracker.options, trial, folder)


def check_tracker(tracker: TrackerConfig) -> None:
    """Raises ConfigError for a wrong option, and where wandb is asked for but not installed."""
    if tracker.name == "none":
        return
    section = Section(tracker.options, "tracker")
    section.take_name("project")
    section.take("entity")
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
