"""Looking at a growing number of search replicates, at planned moments only: what may be said at each of them.

The error of one question is spent over its looks in proportion to their searches, and that of a look over two tests:
most on the losses, the rest on failures. The sum of all levels is the total, so whatever depends on whatever, false
alarms stay below it. Equal levels, as in Pocock 1977, find fewer differences with the same number of searches: looks at
three searches can hardly find anything. Many candidates share one total as well: the k-th gets 1 / (k (k + 1)) of it,
and all of these together are 1, however many there will be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.analysis.failures import failure_p_value
from bench.analysis.intervals import ALPHA, mean_interval
from bench.analysis.power import units_needed, upper_sigma

LOOKS = (3, 5, 8, 12)  # searches of each arm
LOSS_SHARE = 0.8  # of a look's level is for the losses, the rest for failures
MAX_SEARCHES = 1000
Word = Literal["better", "worse", "practically the same", "unresolved"]
FailureWord = Literal["fails more often", "fails less often", ""]
BETTER: Word = "better"
WORSE: Word = "worse"
SAME: Word = "practically the same"
UNRESOLVED: Word = "unresolved"
FAILS_MORE: FailureWord = "fails more often"
FAILS_LESS: FailureWord = "fails less often"


@dataclass(frozen=True)
class SearchPair:
    """One search of each arm, of the same number, their chosen cells shown on the same fresh seeds.

    Attributes:
        difference: of the logarithms of final test losses, candidate - baseline, mean over the seeds on which both
            arms succeeded; None where there is no such seed.
        failed, baseline_failed: whether any run of the arm's chosen cell failed, or no cell could be chosen.
    """

    difference: float | None
    failed: bool
    baseline_failed: bool


@dataclass(frozen=True)
class Look:
    """What a number of searches says.

    Attributes:
        num_searches: of each arm.
        num_pairs: searches of which both arms have a loss.
        difference, low, high: of mean logarithms of losses, candidate - baseline, with the interval of this look.
        num_failed, num_baseline_failed: searches with a failure.
        sigma: standard deviation of the differences, NaN with fewer than two.
        verdict: `BETTER`, `WORSE`, `SAME` or `UNRESOLVED`, about the losses of runs that succeeded.
        failure_p_value: of the exact test of "both arms fail equally often".
        failure_verdict: `FAILS_MORE`, `FAILS_LESS` or "".
    """

    num_searches: int
    num_pairs: int
    difference: float
    low: float
    high: float
    sigma: float
    verdict: Word
    num_failed: int
    num_baseline_failed: int
    failure_p_value: float
    failure_verdict: FailureWord

    @property
    def is_final(self) -> bool:
        return self.verdict != UNRESOLVED or self.failure_verdict != ""


def candidate_level(number: int) -> float:
    """The share of `ALPHA` that the `number`-th question about a baseline gets, counted from 1."""
    return ALPHA / (number * (number + 1))


def look_level(num_searches: int, level: float) -> float:
    """The part of a question's level that is spent at the look after `num_searches`."""
    return level * num_searches / sum(LOOKS)


def decide(pairs: Sequence[SearchPair], margin: float, level: float) -> Look:
    """Compare two arms, search by search.

    Args:
        pairs: every search so far.
        margin: the least difference of logarithms that matters.
        level: of false alarms at this look, from `look_level`.
    """
    differences = np.array([pair.difference for pair in pairs if pair.difference is not None])
    mean, low, high, _ = mean_interval([differences], 1 - LOSS_SHARE * level)
    failed, baseline_failed = sum(pair.failed for pair in pairs), sum(pair.baseline_failed for pair in pairs)
    p_value = failure_p_value(failed, len(pairs), baseline_failed, len(pairs))
    is_shown = p_value <= (1 - LOSS_SHARE) * level
    return Look(
        num_searches=len(pairs),
        num_pairs=len(differences),
        difference=mean,
        low=low,
        high=high,
        sigma=float(differences.std(ddof=1)) if len(differences) > 1 else math.nan,
        verdict=classify(low, high, margin),
        num_failed=failed,
        num_baseline_failed=baseline_failed,
        failure_p_value=p_value,
        failure_verdict="" if not is_shown else FAILS_MORE if failed > baseline_failed else FAILS_LESS,
    )


def classify(low: float, high: float, margin: float) -> Word:
    """The word for an interval: relevance goes before significance."""
    if -margin <= low and high <= margin:
        return SAME
    if high < 0:
        return BETTER
    return WORSE if low > 0 else UNRESOLVED


def searches_needed(look: Look, margin: float, level: float) -> float:
    """How many searches would find a difference of twice the margin in 80 % of cases.

    Args:
        look: the last one; its sigma is taken at an upper limit, since few searches tell little about it.
        margin: the least difference that matters.
        level: of the look after so many searches.

    Returns:
        A whole number; inf beyond `MAX_SEARCHES`, NaN where sigma is not known.
    """
    if math.isnan(look.sigma):
        return math.nan
    sigma = upper_sigma(look.sigma, look.num_pairs - 1)
    return units_needed(2 * margin, sigma, LOSS_SHARE * level, MAX_SEARCHES)
