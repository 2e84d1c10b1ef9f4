"""Who comes first: ranks with their intervals and the chance to be the best, per task and over all of them."""

import math

import numpy as np
import pandas as pd

from bench.analysis.arrays import Array
from bench.analysis.bootstrap import generator, resample_means
from bench.analysis.frames import groups
from bench.analysis.intervals import ALPHA, MIN_UNITS, holm, mean_interval
from bench.analysis.pairs import SEARCH, SEED
from bench.analysis.verdicts import MIN_TASKS, OVERALL

COLUMNS = ["setting", "optimizer", "rank", "rank_low", "rank_high", "p_best", "num_optimizers", "unit", "num_units",
           "num_failed"]  # fmt: skip


def rank_optimizers(final: pd.DataFrame, counted: list[str], *, seed: int = 0) -> pd.DataFrame:
    """Ranks by the mean score, losses given success, of every setting and, from `MIN_TASKS` tasks on, over them.

    The interval of a rank counts who is surely better and who is surely worse: paired t-tests against every other
    optimizer, corrected by Holm's method among them (Mogstad, Romano, Shaikh & Wilhelm 2024; a bootstrap of the ranks
    themselves covers too rarely). P(best) is the share of resamples of the units, searches where there are several, in
    which the optimizer has the lowest mean.

    Args:
        final: From `selection.final_runs`.
        counted: The settings that stand for their tasks.
        seed: Of the resampling.

    Returns:
        `COLUMNS`, by setting and rank; settings with fewer than two optimizers or `MIN_UNITS` units have no rows.
    """
    tables = {str(setting): _unit_scores(group) for setting, group in groups(final, "setting")}
    parts = [_rank({setting: table}, setting, seed) for setting, table in tables.items()]
    if len(counted) >= MIN_TASKS:
        parts.append(_rank({setting: tables[setting] for setting in counted}, OVERALL, seed))
    found = [part for part in parts if len(part)]
    return pd.concat(found, ignore_index=True)[COLUMNS] if found else pd.DataFrame(columns=COLUMNS)


def _unit_scores(group: pd.DataFrame) -> pd.DataFrame:
    """Mean score by unit and optimizer, NaN where every run failed; only units that all optimizers have."""
    searches = group.groupby("optimizer")["replicate"].nunique().min() > 1
    keys = ["replicate"] if searches else ["replicate", "seed"]
    scores = group.assign(score=group["score"].where(np.isfinite(group["score"])))
    table = scores.pivot_table(index=keys, columns="optimizer", values="score", aggfunc="mean", dropna=False)
    ran = group.pivot_table(index=keys, columns="optimizer", values="status", aggfunc="size")
    table = table.reindex(ran.index[ran.notna().all(axis=1)])
    table.attrs["unit"] = SEARCH if searches else SEED
    return table


def _rank(tables: dict[str, pd.DataFrame], label: str, seed: int) -> pd.DataFrame:
    names = sorted(set.intersection(*(set(table.columns) for table in tables.values())))
    values = [table[names].to_numpy(dtype=float) for table in tables.values()]
    if len(names) < 2 or min(len(v) for v in values) < MIN_UNITS or any(np.isnan(v).all(axis=0).any() for v in values):
        return pd.DataFrame(columns=COLUMNS)
    means = np.mean([np.nanmean(v, axis=0) for v in values], axis=0)
    resampled = [
        resample_means(v, generator(seed, f"rank|{name}|{label}")) for name, v in zip(tables, values, strict=True)
    ]
    ends = [rank_interval(values, index) for index in range(len(names))]
    frame = pd.DataFrame({
        "setting": label, "optimizer": names, "rank": pd.Series(means).rank(method="min").astype(int),
        "rank_low": [low for low, _ in ends], "rank_high": [high for _, high in ends],
        "p_best": share_of_firsts(np.mean(resampled, axis=0)), "num_optimizers": len(names),
        "unit": "/".join(sorted({table.attrs["unit"] for table in tables.values()})),
        "num_units": min(len(v) for v in values), "num_failed": sum(np.isnan(v).sum(axis=0) for v in values),
    })  # fmt: skip
    return frame.sort_values(["rank", "optimizer"], ignore_index=True)


def rank_interval(values: list[Array], index: int) -> tuple[int, int]:
    """The ranks that column `index` may have, at 95 %.

    Args:
        values: Scores `[units, optimizers]` per task, lower is better, NaN for failures.
        index: Whose rank.
    """
    others = [other for other in range(values[0].shape[1]) if other != index]
    intervals = []
    for other in others:
        gaps = [v[:, index] - v[:, other] for v in values]
        intervals.append(mean_interval([gap[~np.isnan(gap)] for gap in gaps]))
    corrected = holm([interval.p_value for interval in intervals])
    sure = [interval.mean for interval, p in zip(intervals, corrected, strict=True) if p <= ALPHA]
    return 1 + sum(gap > 0 for gap in sure), len(others) + 1 - sum(gap < 0 for gap in sure)


def share_of_firsts(means: Array) -> Array:
    """How often each column of `[resamples, optimizers]` is the lowest of its row; ties share."""
    known = np.where(np.isnan(means), math.inf, means)
    first = known == known.min(axis=1, keepdims=True)
    return np.asarray((first / first.sum(axis=1, keepdims=True)).mean(axis=0))
