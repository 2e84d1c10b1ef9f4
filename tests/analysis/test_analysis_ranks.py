"""Ranks by hand, and how often their intervals hold the truth."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.analysis import ranks
from tests.analysis.frames_for_tests import final_frame


def test_rank_interval_counts_who_is_surely_better_and_worse() -> None:
    noise = np.array([0.0, 0.01, -0.01, 0.02])
    scores = np.stack([1 + noise, 2 - noise, 2 + noise[::-1], 5 + 2 * noise], axis=1)
    assert [ranks.rank_interval([scores], index) for index in range(4)] == [(1, 1), (2, 3), (2, 3), (4, 4)]


def test_ties_share_the_chance_to_be_the_best() -> None:
    means = np.array([[1.0, 1.0, 2.0], [1.0, 3.0, math.nan]])
    assert ranks.share_of_firsts(means) == pytest.approx([0.75, 0.25, 0.0])


def test_identical_optimizers_share_first_place_and_leave_every_rank_open() -> None:
    table = ranks.rank_optimizers(final_frame({name: [1.0, 2.0, 3.0] for name in "abc"}), [])
    assert table["rank"].tolist() == [1, 1, 1]
    assert table["p_best"].tolist() == pytest.approx([1 / 3] * 3)
    assert (table["rank_low"].tolist(), table["rank_high"].tolist()) == ([1] * 3, [3] * 3)


def test_tasks_are_ranked_together_from_five_on() -> None:
    frames = [final_frame({"a": [1.0, 1.1, 0.9], "b": [2.0, 2.1, 1.9]}, setting=f"t{i}") for i in range(5)]
    final = pd.concat(frames, ignore_index=True)
    names = sorted(final["setting"].unique())
    overall = ranks.rank_optimizers(final, names).query("setting == 'all tasks'")
    assert overall[["optimizer", "rank", "rank_low", "rank_high"]].to_numpy().tolist() == [
        ["a", 1, 1, 1],
        ["b", 2, 2, 2],
    ]
    assert "all tasks" not in set(ranks.rank_optimizers(final, names[:4])["setting"])


def test_rank_intervals_hold_the_true_rank_in_nearly_all_studies() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([0.0, 0.5, 1.0, 3.0])
    held = np.zeros(4)
    for _ in range(100):
        scores = truth + rng.standard_normal((5, 4)) * 0.6
        for index in range(4):
            low, high = ranks.rank_interval([scores], index)
            held[index] += low <= index + 1 <= high
    assert (held / 100 >= 0.9).all()
