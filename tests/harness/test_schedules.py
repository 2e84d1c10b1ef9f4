"""Schedules are pure functions of the step, with their ends where they are documented."""

import pytest

from bench.schedules import constant, cosine, linear, wsd


@pytest.mark.parametrize("schedule", [linear, cosine])
def test_decaying_schedules_go_from_one_at_the_end_of_the_warmup_to_the_final_factor(schedule: object) -> None:
    assert callable(schedule)
    assert schedule(10, 100, warmup_fraction=0.1, final_factor=0.2) == pytest.approx(1.0)
    assert schedule(55, 100, warmup_fraction=0.1, final_factor=0.2) == pytest.approx(0.6)
    assert schedule(100, 100, warmup_fraction=0.1, final_factor=0.2) == pytest.approx(0.2)


def test_warmup_rises_linearly_from_the_first_step() -> None:
    assert [constant(step, 100, warmup_fraction=0.04) for step in (1, 2, 4, 5, 100)] == [0.25, 0.5, 1.0, 1.0, 1.0]


def test_no_warmup_starts_at_one() -> None:
    assert constant(1, 100, warmup_fraction=0.0) == 1.0


def test_wsd_is_flat_between_warmup_and_decay() -> None:
    factors = [
        wsd(step, 100, warmup_fraction=0.1, decay_fraction=0.2, final_factor=0.0) for step in (5, 10, 80, 90, 100)
    ]
    assert factors == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])
