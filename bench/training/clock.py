"""Where the time of a step goes: data, forward, backward, optimizer."""

import time
from collections.abc import Mapping
from itertools import pairwise

import torch

PARTS = ("data", "forward", "backward", "optimizer")
SAMPLED = 16  # on a GPU, one step in so many


class StepClock:
    """Times the parts of steps between two readings, synchronised with the device.

    The end of a step is the start of the next, so the parts add up to the whole loop. A GPU's are measured by events
    on its stream, each of which costs the host as much as a launch does: those of one step in `SAMPLED`, the first
    among them, stand for all and are scaled to what all took. They are read only where the loop synchronises anyway,
    at an evaluation.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._device = device
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._events: list[tuple[str | None, torch.cuda.Event]] = []
        self._num_steps = 0
        self._last = 0.0

    def start(self) -> None:
        """Begin to measure: at the first step, and again after every pause for an evaluation."""
        if self._cuda:
            torch.cuda.synchronize(self._device)
            self._events, self._num_steps = [(None, self._record())], 0
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Account the time since the last lap to `part`."""
        if self._cuda:
            if self._num_steps % SAMPLED == 0:
                self._events.append((part, self._record()))
            return
        now = time.perf_counter()
        self._seconds[part] += now - self._last
        self._last = now

    def end_step(self) -> None:
        """Tell that all laps of a step are done."""
        self._num_steps += 1
        if self._cuda and self._num_steps % SAMPLED == 0:
            self._events.append((None, self._record()))

    def read(self) -> Mapping[str, float]:
        """Seconds per part since the last reading."""
        if self._cuda:
            self._seconds = self._read_events()
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        return seconds

    def _read_events(self) -> dict[str, float]:
        end = self._record()
        torch.cuda.synchronize(self._device)
        whole = self._events[0][1].elapsed_time(end) / 1000
        sampled = dict.fromkeys(PARTS, 0.0)
        for (_, before), (part, after) in pairwise(self._events):
            if part is not None:
                sampled[part] += before.elapsed_time(after)
        total = sum(sampled.values())
        return {part: whole * of_part / total if total else 0.0 for part, of_part in sampled.items()}

    def _record(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event
