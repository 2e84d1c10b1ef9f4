"""Where the time of a step goes: data, forward, backward, optimizer."""

import time
from collections.abc import Mapping
from itertools import pairwise

import torch

PARTS = ("data", "forward", "backward", "optimizer")


class StepClock:
    """Times the parts of steps between two readings, synchronised with the device.

    The end of a step is the start of the next, so the parts add up to the whole loop. On a GPU the parts are measured
    by events on its stream and read only where the loop synchronises anyway, at an evaluation.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._device = device
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._events: list[tuple[str, torch.cuda.Event]] = []
        self._last = 0.0

    def start(self) -> None:
        """Begin to measure: at the first step, and again after every pause for an evaluation."""
        if self._cuda:
            torch.cuda.synchronize(self._device)
            self._events = [("start", self._record())]
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Account the time since the last lap to `part`."""
        if self._cuda:
            self._events.append((part, self._record()))
            return
        now = time.perf_counter()
        self._seconds[part] += now - self._last
        self._last = now

    def read(self) -> Mapping[str, float]:
        """Seconds per part since the last reading."""
        if self._cuda:
            torch.cuda.synchronize(self._device)
            for (_, before), (part, after) in pairwise(self._events):
                self._seconds[part] += before.elapsed_time(after) / 1000
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        return seconds

    def _record(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event
