"""Comparisons with the baseline, and the one word that each of them earns.

Losses are compared among units that succeeded on both sides, failures by a test of their own. Relevance goes before
significance: a difference whose interval lies within the task's margin is practically none, however sure it is.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.arms import label_suffix
from bench.analysis.arrays import Array
from bench.analysis.failures import failure_interval, failure_p_value, smallest_p_value
from bench.analysis.frames import groups
from bench.analysis.intervals import ALPHA, MIN_UNITS, holm, mean_interval
from bench.analysis.pairs import Arms, pair_arms
from bench.analysis.power import detectable_difference, pooled_sigma, units_needed
from bench.analysis.scores import deviations
from bench.analysis.sequential import BETTER, FAILS_LESS, FAILS_MORE, UNRESOLVED, WORSE, classify

PREFERRED_BASELINES = ("adamw", "adam", "sgd")
OVERALL = "all tasks"
MIN_TASKS = 5
TOO_FEW, ALL_FAILED, DISAGREE = "too few", "always failed", "tasks disagree"
COLUMNS = ["setting", "optimizer", "baseline", "unit", "verdict", "failure_verdict", "difference", "low", "high",
           "scale", "split", "relevant", "p_value", "p_holm", "num_units", "num_runs", "fresh", "failed", "failed_of",
           "failed_low", "failed_high", "baseline_failed", "baseline_failed_of", "baseline_failed_low",
           "baseline_failed_high", "failure_p_value", "failure_p_holm", "num_claims", "sd_searches", "sd_seeds",
           "sigma_upper", "detectable", "units_needed"]  # fmt: skip

NEEDED = ["setting", "optimizer", "replicate", "seed", "score", "scale", "split", "relevant", "fresh"]


def choose_baselines(final: pd.DataFrame, wanted: str | None, labels: Sequence[str] = ()) -> dict[str, str]:
    """The baseline of each setting: the one asked for, else the first of `PREFERRED_BASELINES`, else the first by name.

    Args:
        final: From `selection.final_runs`.
        wanted: The whole name of an optimizer, or without its label, which is that of the first label that has it.
        labels: In the order in which they were given.

    Raises:
        ValueError: nobody of that name ran.
    """
    pool = sorted(final["optimizer"].unique())
    suffixes = dict.fromkeys(["", *map(label_suffix, labels)])
    asked = [f"{name}{suffix}" for name in ([wanted] if wanted else PREFERRED_BASELINES) for suffix in suffixes]
    if wanted is not None and not set(asked) & set(pool):
        raise ValueError(f"no baseline {wanted!r} in these runs (there are: {', '.join(pool)})")
    chosen = {}
    for setting, group in groups(final, "setting"):
        names = set(group["optimizer"])
        order = asked if wanted else [*asked, *sorted(names)]
        if found := [name for name in order if name in names]:
            chosen[str(setting)] = found[0]
    return chosen


def compare(final: pd.DataFrame, baselines: dict[str, str], counted: list[str]) -> pd.DataFrame:
    """Every optimizer against the baseline of its setting and, from `MIN_TASKS` tasks on, over all tasks.

    One family: Holm's correction covers every claim of the table, losses and failures, single tasks and all of them.
    A held-out variant is a setting with a word of its own, and so in the family too; a report of `task.variant=0` alone
    leaves it out, and has fewer claims to correct.

    Args:
        final: From `selection.final_runs`.
        baselines: From `choose_baselines`.
        counted: The settings that stand for their tasks in the comparison over all of them.

    Returns:
        One row per comparison, `COLUMNS`, the ones over all tasks last, under the setting `OVERALL`. `difference`,
        `low`, `high`, `relevant`, the deviations and `detectable` are in units of the score: differences of logarithms
        where `scale` is "log". `verdict` is `BETTER`, `WORSE`, `SAME`, `UNRESOLVED`, `TOO_FEW`, `ALL_FAILED` or
        `DISAGREE`; `failure_verdict` is `FAILS_MORE`, `FAILS_LESS` or "".
    """
    final = final[NEEDED]
    pairs = {
        (str(setting), str(optimizer)): pair_arms(arm, group[group["optimizer"] == baselines[setting]], "score")
        for setting, group in groups(final, "setting")
        if setting in baselines
        for optimizer, arm in groups(group, "optimizer")
        if optimizer != baselines[setting]
    }
    rows = [_loss_row(final, setting, optimizer, baselines[setting], arms)
            for (setting, optimizer), arms in pairs.items()]  # fmt: skip
    rows += _overall_rows(final, pairs, baselines, counted)
    table = pd.DataFrame(rows, columns=COLUMNS)
    return _judge_overall(_judge(_correct(table), pairs), counted)


def _loss_row(final: pd.DataFrame, setting: str, optimizer: str, baseline: str, arms: Arms) -> dict[str, object]:
    group = final[(final["setting"] == setting) & final["optimizer"].isin([optimizer, baseline])]
    interval = mean_interval([arms.differences])
    searches, seeds = np.array([deviations(runs) for _, runs in group.groupby("optimizer")]).T
    return {
        "setting": setting, "optimizer": optimizer, "baseline": baseline, "unit": arms.unit,
        "difference": interval.mean, "low": interval.low, "high": interval.high, "p_value": interval.p_value,
        **{name: group[name].iloc[0] for name in ("scale", "split", "relevant")},
        "num_units": len(arms.differences), "num_runs": arms.num_runs, "fresh": bool(group["fresh"].all()),
        **_failure_columns("", arms.failed, arms.num_units),
        **_failure_columns("baseline_", arms.other_failed, arms.other_units),
        "failure_p_value": failure_p_value(arms.failed, arms.num_units, arms.other_failed, arms.other_units),
        "sd_searches": _root_mean_square(searches), "sd_seeds": _root_mean_square(seeds),
    }  # fmt: skip


def _failure_columns(prefix: str, failed: int, units: int) -> dict[str, float]:
    low, high = failure_interval(failed, units)
    ends = {f"{prefix}failed_low": low, f"{prefix}failed_high": high}
    return {f"{prefix}failed": failed, f"{prefix}failed_of": units, **ends}


def _root_mean_square(values: Array) -> float:
    known = values[~np.isnan(values)]
    return math.sqrt(np.mean(known**2)) if len(known) else math.nan


def _overall_rows(
    final: pd.DataFrame, pairs: dict[tuple[str, str], Arms], baselines: dict[str, str], counted: list[str]
) -> list[dict[str, object]]:
    """Optimizers that ran on every task against one and the same baseline, with losses that have logarithms."""
    facts = final[final["setting"].isin(counted)].drop_duplicates("setting")
    names = {baselines.get(setting) for setting in counted}
    if len(counted) < MIN_TASKS or len(names) != 1 or (facts["scale"] != "log").any():
        return []
    rows: list[dict[str, object]] = []
    for optimizer in sorted({name for _, name in pairs}):
        arms = [pairs[setting, optimizer] for setting in counted if (setting, optimizer) in pairs]
        units = {arm.unit for arm in arms}
        if len(arms) < len(counted) or len(units) > 1:
            continue
        interval = mean_interval([arm.differences for arm in arms])
        rows.append({
            "setting": OVERALL, "optimizer": optimizer, "baseline": next(iter(names)), "unit": units.pop(),
            "difference": interval.mean, "low": interval.low, "high": interval.high, "p_value": interval.p_value,
            "scale": "log", "split": "/".join(sorted(facts["split"].unique())), "relevant": facts["relevant"].mean(),
            "num_units": min(len(arm.differences) for arm in arms), "num_runs": sum(arm.num_runs for arm in arms),
            "fresh": bool(final.loc[final["setting"].isin(counted), "fresh"].all()), "failure_p_value": 1.0,
        })  # fmt: skip
    return rows


def _correct(table: pd.DataFrame) -> pd.DataFrame:
    counts = table[["failed", "failed_of", "baseline_failed", "baseline_failed_of"]].fillna(0).astype(int)
    table["p_holm"], table["failure_p_holm"], table["num_claims"] = correct(
        list(table["p_value"]), list(table["num_units"]), list(counts.itertuples(index=False, name=None))
    )
    return table


def correct(
    p_values: Sequence[float], num_units: Sequence[int], failures: Sequence[tuple[int, int, int, int]]
) -> tuple[list[float], list[float], int]:
    """Holm's correction over all claims that could have been made; what could not is not paid for (Tarone 1990).

    Args:
        p_values: Of the difference of losses, one per comparison.
        num_units: Pairs behind each.
        failures: Failed and all units of the optimizer, then of the baseline, one per comparison.

    Returns:
        Corrected p-values of the losses and of the failures, 1 where no claim is possible; the number of claims.
    """
    losses = [index for index, count in enumerate(num_units) if count >= MIN_UNITS]
    tested = [index for index, counts in enumerate(failures) if smallest_p_value(*counts) <= ALPHA]
    raw = [*(p_values[index] for index in losses), *(failure_p_value(*failures[index]) for index in tested)]
    corrected = holm(raw)
    by_loss = dict(zip(losses, corrected, strict=False))
    by_failure = dict(zip(tested, corrected[len(losses) :], strict=True))
    everybody = range(len(p_values))
    return [by_loss.get(i, 1.0) for i in everybody], [by_failure.get(i, 1.0) for i in everybody], len(raw)


def _judge(table: pd.DataFrame, pairs: dict[tuple[str, str], Arms]) -> pd.DataFrame:
    # Holm's first and hardest step: what is found at this level is found wherever it stands in the order.
    alpha = ALPHA / max(int(table["num_claims"].max()) if len(table) else 1, 1)
    sigmas = {
        setting: pooled_sigma([pairs[setting, name].differences for name in rows["optimizer"]])
        for setting, rows in groups(table[table["setting"] != OVERALL], "setting")
    }
    table["sigma_upper"] = table["setting"].map(sigmas).astype(float)
    table["detectable"] = [
        detectable_difference(sigma, int(count), alpha)
        for sigma, count in zip(table["sigma_upper"], table["num_units"], strict=True)
    ]
    table["units_needed"] = [
        units_needed(margin, sigma, alpha)
        for margin, sigma in zip(table["relevant"], table["sigma_upper"], strict=True)
    ]
    table["verdict"] = [loss_verdict(row) for _, row in table.iterrows()]
    table["failure_verdict"] = [_failure_verdict(row) for _, row in table.iterrows()]
    return table


def loss_verdict(row: Any) -> str:
    """The word for one row of `compare`, from its interval, corrected p-value and margin."""
    if 0 < row["failed_of"] == row["failed"] and 0 < row["baseline_failed_of"] == row["baseline_failed"]:
        return ALL_FAILED
    if row["num_units"] < MIN_UNITS:
        return TOO_FEW
    word = classify(row["low"], row["high"], 0.0 if math.isnan(row["relevant"]) else row["relevant"])
    return UNRESOLVED if word in (BETTER, WORSE) and row["p_holm"] > ALPHA else word


def _failure_verdict(row: pd.Series) -> str:
    if row["failure_p_holm"] > ALPHA:
        return ""
    more = row["failed"] * row["baseline_failed_of"] > row["baseline_failed"] * row["failed_of"]
    return FAILS_MORE if more else FAILS_LESS


def _judge_overall(table: pd.DataFrame, counted: list[str]) -> pd.DataFrame:
    """No word over all tasks where the tasks themselves disagree."""
    for index in table.index[table["setting"] == OVERALL]:
        optimizer = table.loc[index, "optimizer"]
        own = table[(table["optimizer"] == optimizer) & table["setting"].isin(counted)]
        if {BETTER, WORSE} <= set(own["verdict"]) or (own["failure_verdict"] == FAILS_MORE).any():
            table.loc[index, "verdict"] = DISAGREE
    return table
