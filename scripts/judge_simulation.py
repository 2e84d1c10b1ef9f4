"""How often the judge errs, looks included, and how often it finds what is there: simulated studies, real rule.

python scripts/judge_simulation.py --out results/reference/judge_simulation/table.md
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from common import publish
from scipy import stats

from bench.analysis.sequential import LOOKS, Look, SearchPair, candidate_level, decide, look_level

Noise = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
SIGMA = 0.1  # standard deviation of log losses between searches of one arm
DIFFERENCE_SIGMA = SIGMA * math.sqrt(2)
NO_MARGIN = 1e-9  # nothing is practically the same: every look is a test of "no difference"


def normal(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(0, SIGMA, count), rng.normal(0, SIGMA, count)


def student(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(SIGMA / math.sqrt(3) * rng.standard_t(3, count) for _ in range(2))  # type: ignore[return-value]


def lognormal(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses of one arm are lognormal with sigma 0.8, of the other nearly constant; their geometric means are equal."""
    return rng.normal(0, 0.8, count), rng.normal(0, 0.05, count)


def skewed(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Even logarithms are skewed, in one arm only: an exponential distribution against a normal one, of equal means."""
    return SIGMA * (rng.exponential(1, count) - 1), rng.normal(0, SIGMA, count)


NOISES: dict[str, Noise] = {
    "normal": normal,
    "Student's t, 3 degrees": student,
    "lognormal losses, sigma 0.8, against 0.05": lognormal,
    "exponential log losses in one arm": skewed,
}


def make_study(rng: np.random.Generator, noise: Noise, shift: float, failing: tuple[float, float]) -> list[SearchPair]:
    """All searches of one study: the candidate is worse by `shift`, and searches fail as often as `failing` says."""
    candidate, baseline = noise(rng, LOOKS[-1])
    failed, other_failed = (rng.random(LOOKS[-1]) < rate for rate in failing)
    return [
        SearchPair(
            None if is_failed or is_other_failed else float(loss + shift - other),
            bool(is_failed),
            bool(is_other_failed),
        )
        for loss, other, is_failed, is_other_failed in zip(candidate, baseline, failed, other_failed, strict=True)
    ]


def judge_study(pairs: Sequence[SearchPair], margin: float, level: float) -> Look:
    """The look at which a study ends: the first that says something, else the last."""
    for count in LOOKS:
        look = decide(pairs[:count], margin, look_level(count, level))
        if look.is_final:
            break
    return look


def rate_with_interval(hits: int, count: int) -> str:
    low, high = stats.binomtest(hits, count).proportion_ci(0.95, method="exact")
    return f"{hits / count:.2%} ({low:.2%} to {high:.2%})"


def false_alarms(num_studies: int, noise: Noise, rate: float, level: float) -> str:
    """A row's figures: studies that called equal arms different by loss, and by failures."""
    rng = np.random.default_rng(0)
    looks = [judge_study(make_study(rng, noise, 0.0, (rate, rate)), NO_MARGIN, level) for _ in range(num_studies)]
    words = sum(look.verdict in ("better", "worse") for look in looks)
    either = sum(look.is_final for look in looks)
    return f"{rate_with_interval(words, num_studies)} | {rate_with_interval(either, num_studies)}"


def family(num_folders: int, num_candidates: int, num_tasks: int) -> str:
    """Folders in which at least one of many equal candidates was called different on any task."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(num_folders):
        wrong += any(
            judge_study(
                make_study(rng, normal, 0.0, (0.0, 0.0)), NO_MARGIN, candidate_level(number) / num_tasks
            ).is_final
            for number in range(1, num_candidates + 1)
            for _ in range(num_tasks)
        )
    return rate_with_interval(wrong, num_folders)


def power(num_studies: int, ratio: float, level: float) -> str:
    """A row's figures for a margin of `ratio` standard deviations of the differences between searches."""
    rng = np.random.default_rng(2)
    margin = ratio * DIFFERENCE_SIGMA
    ends = {
        shift: [
            judge_study(make_study(rng, normal, shift * margin, (0.0, 0.0)), margin, level) for _ in range(num_studies)
        ]
        for shift in (0, 1, 2)
    }
    found = [look for look in ends[2] if look.verdict == "worse"]
    searches = f"{np.mean([look.num_searches for look in found]):.1f}" if found else "-"
    same = [sum(look.verdict == "practically the same" for look in ends[shift]) for shift in (0, 1)]
    rates = (rate_with_interval(count, num_studies) for count in (len(found), *same))
    found_rate, same_rate, wrong_rate = rates
    return f"| {ratio:g} | {found_rate} | {searches} | {same_rate} | {wrong_rate} |"


def make_lines(num_studies: int) -> list[str]:
    level = candidate_level(1)
    lines = [
        f"{num_studies:,} studies a row, looks after {', '.join(map(str, LOOKS))} searches; exact 95 % intervals.",
        "",
        "## False alarms of one question, both arms alike",
        "",
        "| noise of log losses | searches that fail | level | better or worse | that, or fails more or less often |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, noise in NOISES.items():
        for rate in (0.0, 0.2):
            for total in (0.05, level):
                lines.append(f"| {name} | {rate:.0%} | {total:.2%} | {false_alarms(num_studies, noise, rate, total)} |")
    lines += [
        "",
        "## False alarms of a whole folder",
        "",
        "| equal candidates, one after the other | tasks each | folders with any false alarm |",
        "| --- | --- | --- |",
        f"| 10 | 2 | {family(num_studies // 5, 10, 2)} |",
        "",
        f"## What is found by the first candidate on one task (level {level:.2%}), normal noise",
        "",
        "| margin in sd of the difference | worse by twice the margin: found | searches until then "
        "| equal: practically the same | worse by the margin: practically the same |",
        "| --- | --- | --- | --- | --- |",
        *(power(num_studies, ratio, level) for ratio in (0.25, 0.5, 0.625, 0.75, 1.0, 1.5)),
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    publish(make_lines(options.studies), options.out)


if __name__ == "__main__":
    main()
