"""The protocol of a tracker, and the mirror that tells all trackers of all trials in training."""

import importlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from torch import Tensor

from bench.config.session import TrackerConfig
from bench.errors import ConfigError, how_to_install, one_line
from bench.jobs.trackers.metrics import count_seen, name_metrics
from bench.runs.schema import Run, Status
from bench.runs.trial import Trial
from bench.training.record import Record, Row

log = logging.getLogger(__name__)
LIVE_SECONDS = 1.0  # between losses that are told while no evaluation is due


class Tracker(Protocol):
    """Mirrors one trial."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take values at a step, none smaller than the one before."""

    def finish(self, summary: Mapping[str, float | str | None], status: Status) -> None:
        """Take the figures of the whole trial, and end."""


class QuietTracker:
    """A tracker that never fails: after its first error, which is told, it takes no more."""

    def __init__(self, make: Callable[..., Tracker], *args: Any) -> None:
        self.name = make.__name__
        self._tracker: Tracker | None = None
        with self._quiet():
            self._tracker = make(*args)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        with self._quiet():
            if self._tracker is not None:
                self._tracker.log(step, values)

    def finish(self, summary: Mapping[str, float | str | None], status: Status) -> None:
        with self._quiet():
            if self._tracker is not None:
                self._tracker.finish(summary, status)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        with quiet(self.name):
            try:
                yield
            except Exception:
                self._tracker = None
                raise


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Tell of an error and go on: a foreign library and a foreign server may raise whatever they like."""
    try:
        yield
    except Exception as error:
        log.warning("%s failed and is left out: %s: %s", name, type(error).__name__, one_line(str(error)))


class Mirror:
    """Tells the trackers of each trial of a pack what its training shows, live. A watcher of the training loop.

    The trackers work in a thread of their own: no training waits for them, be it for a server that is silent.

    Args:
        config: which trackers there are.
        trials: those to be mirrored, of all that train together.
        folder: where trackers keep their files.
    """

    def __init__(self, config: TrackerConfig, trials: Iterable[Trial], folder: Path) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracker")
        self._last_row = {id(trial.config): -1 for trial in trials if config.has_any}
        self._last_told = time.monotonic()
        self._trackers: dict[int, list[QuietTracker]] = {}
        for trial in trials if config.has_any else ():
            self._thread.submit(self._open, config, trial, folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._last_row):
            self._thread.submit(self._finish, key, {}, "failed")
        self._thread.shutdown()

    def on_step(self, records: Sequence[Record], step: int, losses: Tensor) -> None:
        now = time.monotonic()
        if now - self._last_told < LIVE_SECONDS or not self._last_row:
            return
        self._last_told = now
        for record, loss in zip(records, losses.tolist(), strict=True):
            values = {"train/batch_loss": loss, **count_seen(step, record.trial.task)}
            self._thread.submit(self._log, id(record.trial), step, values)

    def on_row(self, record: Record, row: Row) -> None:
        key, step = id(record.trial), int(row["step"])
        if step > self._last_row.get(key, step):  # a trial whose pack did not fit into memory begins again
            self._last_row[key], self._last_told = step, time.monotonic()
            self._thread.submit(self._log, key, step, name_metrics(row, record.trial.task))

    def finish(self, trial: Trial, run: Run) -> None:
        """End the trackers of a trial that is stored."""
        figures = {name: value for name, value in run.summary.figures.items() if value is not None}
        summary: dict[str, float | str | None] = {**figures, "status": run.status, "pack_size": run.pack.size}
        if trial.sweep is None:
            summary["objective"] = run.summary.final_val_loss  # of a whole sweep, it stands in the sweep's own run
        if self._last_row.pop(id(trial.config), None) is not None:
            self._thread.submit(self._finish, id(trial.config), summary, run.status)

    def _open(self, config: TrackerConfig, trial: Trial, folder: Path) -> None:
        self._trackers[id(trial.config)] = _open_trackers(config, trial, folder)

    def _log(self, key: int, step: int, values: Mapping[str, float]) -> None:
        for tracker in self._trackers.get(key, ()):
            tracker.log(step, values)

    def _finish(self, key: int, summary: Mapping[str, float | str | None], status: Status) -> None:
        for tracker in self._trackers.pop(key, ()):
            tracker.finish(summary, status)


def check_trackers(config: TrackerConfig) -> None:
    """Raises ConfigError where a tracker is asked for whose package is not installed."""
    for package, command in (("wandb", "pip install wandb"), ("tensorboard", how_to_install("tensorboard"))):
        if getattr(config, package):
            try:
                importlib.import_module(package)
            except ImportError as error:
                text = f"not installed: {command}, or use tracker=none"
                raise ConfigError("tracker", package, text) from error


def _open_trackers(config: TrackerConfig, trial: Trial, folder: Path) -> list[QuietTracker]:
    from bench.jobs.trackers.csv_file import CsvFile
    from bench.jobs.trackers.tensorboard import TensorBoard
    from bench.jobs.trackers.wandb_run import WandbRun

    trackers = []
    if config.wandb and (config.runs == "trial" or trial.sweep is None):
        trackers.append(QuietTracker(WandbRun, config, trial, folder))
    if config.csv:
        trackers.append(QuietTracker(CsvFile, trial, folder))
    if config.tensorboard:
        trackers.append(QuietTracker(TensorBoard, trial, folder))
    return trackers
