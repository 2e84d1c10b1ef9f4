"""Worker processes that train packs side by side. One that dies costs the pack it had, which is tried once more."""

import logging
import multiprocessing
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from bench.config.session import SessionConfig
from bench.errors import JobFailedError, count_of
from bench.jobs.packing import Pack
from bench.jobs.progress import REFRESH_SECONDS, Display, Glimpse
from bench.jobs.runner import PackRunner
from bench.runs.schema import Run
from bench.training.components import TaskShelf
from bench.training.interrupt import StopSignal
from bench.training.record import Record, Row

log = logging.getLogger(__name__)
MAX_DEATHS = 2  # of workers over the same pack
CAN_FORK = "forkserver" in multiprocessing.get_all_start_methods()


@dataclass
class Assignment:
    """A pack that waits or trains, and how many workers have died over it."""

    pack: Pack
    num_deaths: int = 0


class Worker:
    """A process that trains one pack after the other. It is forked from a server that has imported everything.

    Args:
        session: where runs and checkpoints go.
        number: which of the workers it is; on a machine with several GPUs it has the one of this number.
        on_cuda: start it from nothing, since CUDA does not survive a fork.
    """

    def __init__(self, session: SessionConfig, number: int, on_cuda: bool) -> None:
        if not on_cuda:
            prepare_workers()
        context: Any = multiprocessing.get_context("forkserver" if CAN_FORK and not on_cuda else "spawn")
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, session, gpu_of(number) if on_cuda else None))
        with _no_main_module():
            self.process.start()
        theirs.close()
        self.number = number
        self.assignment: Assignment | None = None

    def train(self, assignment: Assignment) -> None:
        """Begin with a pack; a worker that has died meanwhile is noticed where its answer is read."""
        self.assignment = assignment
        try:
            self.connection.send(assignment.pack)
        except OSError:
            log.debug("worker %d is gone", self.number)

    def receive(self) -> Any:
        """Its next message: a glimpse, runs with what is left of the pack, or an error; None where it has died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        """Let the process end, at once where it still trains."""
        self.connection.close()
        if self.assignment is not None:
            self.process.terminate()
        self.process.join()


def prepare_workers() -> None:
    """Begin to import, in the background, what workers on CPUs are forked from."""
    if CAN_FORK:
        forkserver.set_forkserver_preload([__name__])
        with _no_main_module(), _no_interrupts():
            forkserver.ensure_running()


@contextmanager
def _no_main_module() -> Iterator[None]:
    """A new process would run the caller's script again, which need not be written for that."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """A new process would inherit that Ctrl-C ends it with a traceback while it still imports."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_in_processes(
    packs: Sequence[Pack], session: SessionConfig, num_workers: int, display: Display, stop: StopSignal
) -> Iterator[list[Run]]:
    """Spread packs over worker processes, show where they are, and yield their runs. A stop lets those in training end.

    Raises:
        JobFailedError: two workers died over the same pack; all others are trained.
        StoreError: the results folder cannot be written.
    """
    on_cuda = any(torch.device(pack.trials[0].config.device).type == "cuda" for pack in packs)
    waiting = deque(map(Assignment, packs))
    workers: list[Worker] = []
    num_lost = 0
    try:
        while True:
            _assign(waiting, workers, session, num_workers, on_cuda, stop)
            busy = {worker.connection: worker for worker in workers if worker.assignment is not None}
            if not busy:
                break
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                message = worker.receive()
                if isinstance(message, Glimpse):
                    display.glimpsed(worker.number, message)
                    continue
                display.glimpsed(worker.number, None)
                assignment, worker.assignment = worker.assignment, None
                assert assignment is not None
                if message is None:
                    workers.remove(worker)
                    num_lost += _try_again(assignment, waiting, stop)
                elif isinstance(message, Exception):
                    raise message
                else:
                    runs, rest = message
                    waiting.extend([Assignment(rest, assignment.num_deaths)] if rest else [])
                    yield runs
    finally:
        for worker in workers:
            worker.end()
    if num_lost:
        raise JobFailedError(f"a worker died twice over the same pack; not trained: {count_of(num_lost, 'pack')}")


def _assign(
    waiting: deque[Assignment],
    workers: list[Worker],
    session: SessionConfig,
    num_workers: int,
    on_cuda: bool,
    stop: StopSignal,
) -> None:
    """Give what waits to workers that are idle, and to new ones while there may be more."""
    while waiting and stop.number is None:
        idle = next((worker for worker in workers if worker.assignment is None), None)
        if idle is None:
            if len(workers) == num_workers:
                return
            taken = {worker.number for worker in workers}
            idle = Worker(session, min(set(range(num_workers)) - taken), on_cuda)
            workers.append(idle)
            stop.followers = [worker.process.pid for worker in workers]
        idle.train(waiting.popleft())


def _try_again(assignment: Assignment, waiting: deque[Assignment], stop: StopSignal) -> bool:
    """Let the pack of a dead worker wait once more. Returns whether it is given up."""
    assignment.num_deaths += 1
    if stop.number is not None:
        return False
    if assignment.num_deaths == MAX_DEATHS:
        return True
    log.warning("a worker died: training its pack once more")
    waiting.append(assignment)
    return False


def gpu_of(number: int) -> int | None:
    """The GPU of a worker, another one for each while there are enough; None without a GPU."""
    count = torch.cuda.device_count()
    return number % count if count else None


class _Reporter:
    """Sends glimpses of the training to the parent. A watcher of the training loop."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.sent = connection, time.monotonic()

    def on_step(self, records: Sequence[Record], step: int, losses: Tensor) -> None:
        if time.monotonic() - self.sent >= REFRESH_SECONDS:
            self.sent = time.monotonic()
            with suppress(OSError):  # the parent is gone: this pack is stored all the same
                self.connection.send(Glimpse.of(records, step, losses))

    def on_row(self, record: Record, row: Row) -> None:
        """Rows are stored by whoever trains."""


def _serve(connection: Connection, session: SessionConfig, gpu: int | None) -> None:
    """What a worker process does until nobody listens any more."""
    if gpu is not None:
        torch.cuda.set_device(gpu)
    with StopSignal() as stop, suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        runner = PackRunner(session, [_Reporter(connection)], stop, TaskShelf())
        while True:
            pack: Pack = connection.recv()
            connection.send(_train(pack, runner))


def _train(pack: Pack, runner: PackRunner) -> tuple[list[Run], Pack | None] | Exception:
    """The runs of a pack and what is left of it, or the error that the parent is to raise."""
    try:
        return runner.run(pack)
    except Exception as error:
        error.add_note(traceback.format_exc())
        return error
