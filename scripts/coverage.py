"""Do the report's intervals cover, and how often are its words false? Simulated studies whose answer is known.

    python scripts/coverage.py [--studies 4000] [--alarms 10000] [--out results/reference/coverage]

Losses are exp(noise): the logarithm, which verdicts compare, is a seed's own part plus a part that both arms share. The
noise of the logarithm is normal, Student's t with 3 degrees of freedom, or lognormal with sigma 0.8; "failures" is
normal noise where every run fails with a chance of 10 %. All intervals come from the functions that the report calls.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bench.analysis.bootstrap import Array
from bench.analysis.failures import failure_interval
from bench.analysis.intervals import MIN_UNITS, mean_interval
from bench.analysis.power import paired_power
from bench.analysis.ranks import rank_interval
from bench.analysis.sequential import BETTER, WORSE
from bench.analysis.verdicts import correct, loss_verdict

Generator = np.random.Generator
Noise = Callable[[Generator, tuple[int, ...]], Array]
NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape),
    "lognormal": lambda rng, shape: rng.lognormal(0.0, 0.8, shape) - np.exp(0.32),
    "failures": lambda rng, shape: np.where(rng.random(shape) < 0.1, np.nan, rng.standard_normal(shape)),
}
COUNTS = (3, 5, 10)
NUM_ARMS, NUM_TASKS = 6, 5
GAPS = np.array([0.0, 0.5, 1.0, 3.0])


def pair_differences(noise: Noise, rng: Generator, count: int) -> Array:
    """Differences of two arms with one and the same seed effect, of the pairs that succeeded."""
    arms = rng.standard_normal(count) + noise(rng, (2, count))
    gaps = arms[0] - arms[1]
    return np.asarray(gaps[~np.isnan(gaps)])


def covered_differences(noise: Noise, rng: Generator, count: int) -> Iterator[bool]:
    """The interval of a ratio of losses."""
    gaps = pair_differences(noise, rng, count)
    if len(gaps) >= MIN_UNITS:
        interval = mean_interval([gaps])
        yield interval.low <= 0 <= interval.high


def covered_all_tasks(noise: Noise, rng: Generator, count: int) -> Iterator[bool]:
    """The interval over five tasks, the last three times as noisy as the first."""
    gaps = [(1 + task / 2) * pair_differences(noise, rng, count) for task in range(NUM_TASKS)]
    if min(map(len, gaps)) >= MIN_UNITS:
        interval = mean_interval(gaps)
        yield interval.low <= 0 <= interval.high


def covered_seconds(noise: Noise, rng: Generator, count: int) -> Iterator[bool]:
    """The interval of steps ratio x cost of a step; the cost comes from 20 rounds of a tenth of the noise."""
    gaps, rounds = pair_differences(noise, rng, count), 0.1 * pair_differences(noise, rng, 20)
    if len(gaps) >= MIN_UNITS:
        interval = mean_interval([gaps, rounds])
        yield interval.low <= 0 <= interval.high


def covered_ranks(noise: Noise, rng: Generator, count: int) -> Iterator[bool]:
    """The interval of each of four ranks."""
    scores = GAPS + rng.standard_normal((count, 1)) + noise(rng, (count, len(GAPS)))
    if not np.isnan(scores).all(axis=0).any():
        for index in range(len(GAPS)):
            low, high = rank_interval([scores], index)
            yield low <= index + 1 <= high


def covered_skewed(noise: Noise, rng: Generator, count: int) -> Iterator[bool]:
    """The interval of a ratio of losses where only one of the arms has this noise, and the other none."""
    gaps = rng.standard_normal(count) * 0.1 + noise(rng, (count,))
    gaps = gaps[~np.isnan(gaps)]
    if len(gaps) >= MIN_UNITS:
        interval = mean_interval([gaps])
        yield interval.low <= 0 <= interval.high


KINDS = {
    "ratio of losses": covered_differences, "all tasks": covered_all_tasks, "seconds": covered_seconds,
    "rank": covered_ranks, "one arm noisy": covered_skewed,
}  # fmt: skip


def coverage_table(num_studies: int) -> pd.DataFrame:
    """kind, noise, units, intervals, coverage."""
    rows = []
    for kind, covers in KINDS.items():
        for name, noise in NOISES.items():
            for count in COUNTS:
                rng = np.random.default_rng([len(kind), len(name), count])
                studies = num_studies // 4 if kind == "rank" else num_studies
                held = [hit for _ in range(studies) for hit in covers(noise, rng, count)]
                rows.append((kind, name, count, len(held), float(np.mean(held))))
    for rate in (0.02, 0.1, 0.5):
        for count in COUNTS:
            chances = stats.binom.pmf(np.arange(count + 1), count, rate)
            ends = [failure_interval(failed, count) for failed in range(count + 1)]
            exact = sum(p for p, (low, high) in zip(chances, ends, strict=True) if low <= rate <= high)
            rows.append(("failure rate", f"{rate:g}", count, 0, float(exact)))
    return pd.DataFrame(rows, columns=["interval", "noise", "units", "simulated", "coverage"])


def alarm_table(num_studies: int) -> pd.DataFrame:
    """noise, searches, studies, and the share of them with any false word, in a pool of arms that are all the same."""
    rows = []
    for name, noise in NOISES.items():
        for count in COUNTS:
            rng = np.random.default_rng([len(name), count])
            alarms = sum(has_false_word(noise, rng, count) for _ in range(num_studies))
            low, high = stats.binomtest(alarms, num_studies).proportion_ci(method="exact")
            rows.append((name, count, num_studies, alarms / num_studies, low, high))
    return pd.DataFrame(rows, columns=["noise", "searches", "studies", "false_alarms", "low", "high"])


def has_false_word(noise: Noise, rng: Generator, count: int) -> bool:
    """One study: arms that are the same optimizer tuned anew, the first of them the baseline, without any margin."""
    arms = rng.standard_normal(count) + noise(rng, (NUM_ARMS, count))
    failed = np.isnan(arms).sum(axis=1)
    rows: list[dict[str, Any]] = []
    for arm, failures in zip(arms[1:], failed[1:], strict=True):
        gaps = (arm - arms[0])[~np.isnan(arm - arms[0])]
        rows.append({**mean_interval([gaps])._asdict(), "num_units": len(gaps), "relevant": np.nan,
                     "failed": int(failures), "failed_of": count, "baseline_failed": int(failed[0]),
                     "baseline_failed_of": count})  # fmt: skip
    counts = [(row["failed"], count, row["baseline_failed"], count) for row in rows]
    losses, failures, _ = correct([row["p_value"] for row in rows], [row["num_units"] for row in rows], counts)
    words = [loss_verdict(row | {"difference": row["mean"], "p_holm": p}) for row, p in zip(rows, losses, strict=True)]
    return bool({BETTER, WORSE} & set(words)) or min(failures) <= 0.05


def power_table(num_studies: int) -> pd.DataFrame:
    """difference (in sigmas), pairs, alpha, calculated power, simulated power."""
    rng = np.random.default_rng(0)
    rows = []
    for difference in (0.0, 1.0, 2.0, 4.0):
        for count in (3, 5, 8, 12):
            draws = difference + rng.standard_normal((20 * num_studies, count))
            p_values = stats.ttest_1samp(draws, 0, axis=1).pvalue
            for alpha in (0.05, 0.0155, 0.05 / 26):
                simulated = float((p_values <= alpha).mean())
                rows.append((difference, count, alpha, paired_power(difference, 1.0, count, alpha), simulated))
    return pd.DataFrame(rows, columns=["difference", "pairs", "alpha", "calculated", "simulated"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=4000, help="simulated intervals of each kind")
    parser.add_argument("--alarms", type=int, default=10_000, help="simulated studies of identical optimizers")
    parser.add_argument("--out", type=Path, default=Path("results/reference/coverage"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tables = {
        "coverage": coverage_table(options.studies), "false_alarms": alarm_table(options.alarms),
        "power": power_table(options.studies),
    }  # fmt: skip
    for name, table in tables.items():
        table.to_csv(options.out / f"{name}.csv", index=False, float_format="%.4f")
        print(table.to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
