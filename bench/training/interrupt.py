"""Signals as a stop request that the training loop honours at its next step."""

import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self


class StopSignal:
    """While entered, SIGINT and SIGTERM ask for a stop; a second SIGINT stops at once with KeyboardInterrupt.

    So does SIGUSR2 where somebody waits for it, as submitit does to requeue a job that SLURM is about to end: once
    the training has stopped, and its checkpoint is written, the signal is passed on to that handler.

    Attributes:
        number: the signal that came, or None. The conventional exit code is 128 + number.
        followers: ids of worker processes, which are sent SIGTERM as well.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.followers: Iterable[int] = ()

    def __enter__(self) -> Self:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            waited_for = [signal.SIGUSR2] if callable(signal.getsignal(signal.SIGUSR2)) else []
            for number in (signal.SIGINT, signal.SIGTERM, *waited_for):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self.number == signal.SIGUSR2:
            signal.raise_signal(signal.SIGUSR2)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
        for process in list(self.followers):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
