"""Steps to recovery on curves whose figures can be counted by hand."""

import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

SPIKE, NUM_STEPS = 20, 60
TWIN = (np.ones(NUM_STEPS), np.ones(NUM_STEPS))


def curve(loss: float, num_high: int, num_short: int) -> tuple[np.ndarray, np.ndarray]:
    """Ones, but for the losses and the steps' lengths (0) right after the spike."""
    losses, lengths = np.ones(NUM_STEPS), np.ones(NUM_STEPS)
    losses[SPIKE : SPIKE + num_high] = loss
    lengths[SPIKE : SPIKE + num_short] = 0
    return losses, lengths


def test_recovery_is_counted_from_the_first_window_without_a_high_loss(script: Callable[[str], ModuleType]) -> None:
    found = script("spike_recovery").measure(curve(5.0, 7, 8), TWIN, SPIKE)
    assert found == {"level": 8, "twin": 8, "memory": 3, "final_ratio": 1}  # windows of ten, means below a half: three


def test_one_percent_above_the_twin_is_back_at_it_and_not_at_the_level(script: Callable[[str], ModuleType]) -> None:
    found = script("spike_recovery").measure(curve(1.005, NUM_STEPS, 0), TWIN, SPIKE)
    assert (found["level"], found["twin"], found["memory"]) == (math.inf, 1, 0)
    assert found["final_ratio"] == pytest.approx(1.005)


@pytest.mark.parametrize("loss", [5.0, math.nan, math.inf])
def test_what_never_comes_back_takes_for_ever(loss: float, script: Callable[[str], ModuleType]) -> None:
    found = script("spike_recovery").measure(curve(loss, NUM_STEPS, NUM_STEPS), TWIN, SPIKE)
    assert (found["level"], found["twin"], found["memory"]) == (math.inf,) * 3


def test_the_worst_is_looked_for_near_the_spike(script: Callable[[str], ModuleType]) -> None:
    recovery = script("spike_recovery")
    length = SPIKE + 3 * recovery.LATEST
    twin = (np.ones(length), np.ones(length))
    losses, lengths = np.ones(length), np.ones(length)
    losses[SPIKE : SPIKE + 5] = 2.0
    losses[SPIKE + recovery.LATEST + 20 :] = 9.0  # a fluctuation long after
    assert recovery.measure((losses, lengths), twin, SPIKE)["level"] == 6
