"""The rule of the judge: what a look may say, and how error is shared among looks, tests and candidates."""

import math

import numpy as np
import pytest

from bench.analysis.intervals import ALPHA
from bench.analysis.sequential import (
    LOOKS,
    SearchPair,
    candidate_level,
    decide,
    look_level,
    searches_needed,
)


def pairs(differences: list[float], failed: int = 0, baseline_failed: int = 0) -> list[SearchPair]:
    return [
        SearchPair(difference, number < failed, number < baseline_failed)
        for number, difference in enumerate(differences)
    ]


def test_the_looks_of_a_question_spend_its_level_and_no_more() -> None:
    assert sum(look_level(look, 0.02) for look in LOOKS) == pytest.approx(0.02)


def test_however_many_candidates_are_judged_their_levels_stay_within_alpha() -> None:
    total = sum(candidate_level(number) for number in range(1, 100_001))
    assert ALPHA * 0.9999 < total < ALPHA


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([0.0, 0.0, 0.0], "practically the same"),
        ([-1.1e-7, -1.2e-7, -1.0e-7], "practically the same"),
        ([-0.5, -0.52, -0.51, -0.49, -0.5], "better"),
        ([0.5, 0.52, 0.51, 0.49, 0.5], "worse"),
        ([0.5, -0.5, 0.4, -0.6, 0.3], "unresolved"),
        ([-0.5, -0.5], "unresolved"),
        ([], "unresolved"),
    ],
)
def test_the_word_for_differences(differences: list[float], word: str) -> None:
    assert decide(pairs(differences), margin=0.05, level=0.01).verdict == word


def test_a_smaller_level_gives_a_wider_interval() -> None:
    values = list(np.random.default_rng(0).normal(size=8))
    wide, narrow = (decide(pairs(values), 0.05, level) for level in (0.001, 0.02))
    assert wide.low < narrow.low < narrow.difference == wide.difference < narrow.high < wide.high


def test_failures_speak_for_themselves_and_never_enter_the_losses() -> None:
    look = decide(pairs([-0.5, -0.52, -0.51, -0.49, -0.5, -0.5, -0.5, -0.51], failed=8), margin=0.05, level=0.01)
    assert look.verdict == "better"
    assert look.failure_verdict == "fails more often"
    assert look.failure_p_value == pytest.approx(2 / math.comb(16, 8))
    assert decide(pairs([0.0] * 8, baseline_failed=8), 0.05, 0.01).failure_verdict == "fails less often"
    assert decide(pairs([0.0] * 8, failed=1), 0.05, 0.01).failure_verdict == ""


def test_an_arm_without_a_single_loss_is_unresolved_by_loss_and_shown_by_its_failures() -> None:
    look = decide([SearchPair(None, True, False)] * 8, margin=0.05, level=0.01)
    assert (look.verdict, look.failure_verdict, look.num_pairs) == ("unresolved", "fails more often", 0)


def test_the_searches_needed_are_enough_when_they_are_made() -> None:
    rng = np.random.default_rng(1)
    look = decide(pairs(list(rng.normal(size=12))), margin=0.5, level=0.02)
    needed = int(searches_needed(look, margin=0.5, level=0.02))
    found = [decide(pairs(list(values)), 0.01, 0.02).verdict for values in rng.normal(1.0, look.sigma, (400, needed))]
    assert found.count("worse") >= 0.75 * len(found)
