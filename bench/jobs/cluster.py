"""Packs on a Dask cluster, one task each. Dask gives the pack of a worker that dies to another, three times at most.

All workers see the results folder and the folder of the command under the same paths, and have what is installed here.
"""

import contextlib
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.config.session import SessionConfig
from bench.errors import ConfigError, JobFailedError, how_to_install, one_line
from bench.jobs.packing import Pack
from bench.jobs.runner import PackRunner
from bench.runs.schema import Run
from bench.training.components import TaskShelf
from bench.training.interrupt import StopSignal
from bench.training.record import Record, Row

CONNECT_SECONDS = 20.0
POLL_SECONDS = 1.0  # between two looks whether a stop was asked for


def check_cluster(address: str) -> None:
    """Raises ConfigError where Dask is not installed."""
    if find_spec("distributed") is None:
        raise ConfigError("workers", address, f"needs Dask: {how_to_install('dask')}")


def count_workers(address: str) -> int:
    """How many packs the cluster trains side by side.

    Raises:
        ConfigError: there is no scheduler, it has no workers, or they have several threads, among which torch's global
            random state would be shared.
    """
    from distributed import Client

    try:
        with Client(address, timeout=CONNECT_SECONDS) as client:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            threads = client.nthreads()
    except (OSError, ValueError) as error:
        text = f"no Dask scheduler with a worker answers there: {one_line(str(error))}"
        raise ConfigError("workers", address, text) from error
    if set(threads.values()) != {1}:
        text = f"expected workers of one thread each: dask worker {address} --nworkers N --nthreads 1"
        raise ConfigError("workers", address, text)
    return len(threads)


def run_on_cluster(
    packs: Sequence[Pack], session: SessionConfig, address: str, stop: StopSignal
) -> Iterator[list[Run]]:
    """Spread packs over the cluster and yield their runs. A stop lets those in training write their checkpoints.

    Raises:
        JobFailedError: a pack was given up, since every worker that had it died.
        StoreError: the results folder cannot be written.
    """
    from distributed import Client, Event, KilledWorker, wait

    session = session.model_copy(update={"results_dir": session.results_dir.resolve()})
    name = f"stop-{uuid.uuid4().hex}"
    with Client(address, timeout=CONNECT_SECONDS) as client:

        def submit(pack: Pack) -> Any:
            return client.submit(_work, pack, session, Path.cwd(), name, pure=False)

        pending = [submit(pack) for pack in packs]
        while pending:
            if stop.number is not None:
                Event(name, client=client).set()
            with contextlib.suppress(TimeoutError):
                wait(pending, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
            done = [future for future in pending if future.done()]
            pending = [future for future in pending if not future.done()]
            for future in done:
                try:
                    runs, rest = future.result()
                except KilledWorker as error:
                    raise JobFailedError(f"a pack was given up, its workers died: {one_line(str(error))}") from error
                pending += [submit(rest)] if rest and stop.number is None else []
                yield runs


class _StopListener:
    """Passes a stop on that the client has asked for. A watcher of the training loop."""

    def __init__(self, name: str, stop: StopSignal) -> None:
        from distributed import Event

        self.event, self.stop = Event(name), stop
        self.ask()

    def ask(self) -> None:
        self.asked = time.monotonic()
        if self.event.is_set():
            self.stop.number = signal.SIGTERM

    def on_step(self, records: Sequence[Record], step: int, losses: Tensor) -> None:
        if time.monotonic() - self.asked > POLL_SECONDS:
            self.ask()

    def on_row(self, record: Record, row: Row) -> None:
        """Rows are stored by whoever trains."""


def _work(pack: Pack, session: SessionConfig, folder: Path, stop_name: str) -> tuple[list[Run], Pack | None]:
    """Train a pack in a worker of the cluster as if it had been started in the client's folder."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # the user's own ./optimizers and ./tasks
    stop = StopSignal()
    listener = _StopListener(stop_name, stop)
    if stop.number is not None:
        return [], None
    with contextlib.chdir(folder):
        runner = PackRunner(session, [listener], stop, TaskShelf())
        return runner.run(replace(pack, num_threads=pack.num_threads or 1))
