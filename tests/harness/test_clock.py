"""A GPU's clock, on a stand-in for its events: time passes where a part works, and where the host makes an event."""

from collections.abc import Iterator

import pytest
import torch

from bench.training.clock import PARTS, SAMPLED, StepClock

MILLISECONDS = {"data": 1.0, "forward": 2.0, "backward": 4.0, "optimizer": 3.0}
EVENT_MILLISECONDS = 0.01


class FakeGPU:
    """Its stream's time in milliseconds, and how many events were recorded there."""

    def __init__(self) -> None:
        self.now, self.num_events = 0.0, 0

    def event(self, enable_timing: bool) -> "FakeEvent":
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, gpu: FakeGPU) -> None:
        self.gpu = gpu

    def record(self, stream: None) -> None:
        self.gpu.now += EVENT_MILLISECONDS
        self.gpu.num_events += 1
        self.time = self.gpu.now

    def elapsed_time(self, other: "FakeEvent") -> float:
        return other.time - self.time


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGPU]:
    gpu = FakeGPU()
    monkeypatch.setattr(torch.cuda, "Event", gpu.event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    return gpu


def take_steps(clock: StepClock, gpu: FakeGPU, count: int, slower: float = 1.0) -> None:
    for _ in range(count):
        for part in PARTS:
            gpu.now += slower * MILLISECONDS[part]
            clock.lap(part)
        clock.end_step()


@pytest.mark.parametrize("count", [1, 5, SAMPLED, 3 * SAMPLED + 1])
def test_parts_of_sampled_steps_are_scaled_to_the_seconds_of_all(gpu: FakeGPU, count: int) -> None:
    clock = StepClock(torch.device("cuda"))
    clock.start()
    take_steps(clock, gpu, count)
    seconds = clock.read()
    assert sum(seconds.values()) == pytest.approx((gpu.now - EVENT_MILLISECONDS) / 1000, rel=1e-9)
    for part, milliseconds in MILLISECONDS.items():
        assert seconds[part] == pytest.approx(count * milliseconds / 1000, rel=0.02)


def test_steps_between_samples_record_no_event(gpu: FakeGPU) -> None:
    clock = StepClock(torch.device("cuda"))
    clock.start()
    take_steps(clock, gpu, 1)
    before = gpu.num_events
    take_steps(clock, gpu, SAMPLED - 2)
    assert gpu.num_events == before
    take_steps(clock, gpu, 2)
    assert gpu.num_events == before + 1 + len(PARTS)


def test_a_reading_starts_anew_and_time_while_the_clock_stands_still_counts_for_nothing(gpu: FakeGPU) -> None:
    clock = StepClock(torch.device("cuda"))
    clock.start()
    take_steps(clock, gpu, 3, slower=10.0)
    clock.read()
    gpu.now += 1000.0  # an evaluation
    clock.start()
    take_steps(clock, gpu, 2 * SAMPLED)
    assert sum(clock.read().values()) == pytest.approx(2 * SAMPLED * 0.01, rel=0.02)
