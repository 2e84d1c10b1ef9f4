"""Comparisons with the baseline, and the sentence that each of them earns: a headline and its details."""

import math

import numpy as np
import pandas as pd

from bench.analysis.aggregates import normalize_scores
from bench.analysis.frames import groups
from bench.analysis.intervals import ALPHA, MIN_PAIRS, holm, paired_interval
from bench.analysis.power import detectable_difference, pairs_needed

PREFERRED_BASELINES = ("adamw", "adam", "sgd")
OVERALL = "all tasks"
COLUMNS = ["setting", "optimizer", "baseline", "loss", "baseline_loss", "difference", "relative", "low", "high",
           "t_low", "t_high", "bootstrap_low", "bootstrap_high", "p_value", "p_holm", "num_pairs", "num_comparisons",
           "num_diverged", "num_diverged_baseline", "sigma", "detectable", "seeds_needed", "fresh",
           "verdict"]  # fmt: skip


def choose_baselines(final: pd.DataFrame, wanted: str | None) -> dict[str, str]:
    """The baseline of each setting: the one asked for, else the first of `PREFERRED_BASELINES`, else the first by name.

    Raises:
        ValueError: nobody of that name ran.
    """
    pool = sorted(final["optimizer"].unique())
    if wanted is not None and wanted not in pool:
        raise ValueError(f"no baseline {wanted!r} in these runs (there are: {', '.join(pool)})")
    chosen = {}
    for setting, group in groups(final, "setting"):
        names = set(group["optimizer"])
        order = [wanted] if wanted else [*PREFERRED_BASELINES, *sorted(names)]
        if found := [name for name in order if name in names]:
            chosen[str(setting)] = found[0]
    return chosen


def compare(final: pd.DataFrame, baselines: dict[str, str], *, seed: int = 0) -> pd.DataFrame:
    """Paired comparison of every optimizer with the baseline of its setting, Holm-corrected over all of them.

    A diverged run counts with the loss of its untrained model. "better" or "worse" needs both intervals to exclude
    zero and the corrected p-value to be at most `ALPHA`.

    Args:
        final: One run per (setting, optimizer, seed), from `selection.final_runs`.
        baselines: From `choose_baselines`.
        seed: Of the bootstrap.

    Returns:
        One row per comparison, `COLUMNS`; `verdict` is better, worse, identical, not distinguishable, too few seeds
        or both diverged.
    """
    rows = []
    for setting, group in groups(final, "setting"):
        baseline = baselines.get(setting, "")
        losses = group.pivot(index="seed", columns="optimizer", values="finite_loss")
        diverged = group.pivot(index="seed", columns="optimizer", values="status") == "diverged"
        fresh = group.groupby("optimizer")["fresh"].any()
        for optimizer in losses.columns:
            if optimizer == baseline or baseline not in losses:
                continue
            pairs = losses[[optimizer, baseline]].dropna()
            interval = paired_interval([(pairs[optimizer] - pairs[baseline]).to_numpy()], seed=seed,
                                       label=f"{setting}|{optimizer}|{baseline}")  # fmt: skip
            rows.append({
                "setting": setting, "optimizer": optimizer, "baseline": baseline,
                "loss": pairs[optimizer].mean(), "baseline_loss": pairs[baseline].mean(),
                "sigma": (pairs[optimizer] - pairs[baseline]).std(ddof=1),
                "num_diverged": int(diverged.loc[pairs.index, optimizer].sum()),
                "num_diverged_baseline": int(diverged.loc[pairs.index, baseline].sum()),
                "fresh": bool(fresh[optimizer] and fresh[baseline]), **interval,
            })  # fmt: skip
    return _conclude(pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "verdict"]))


def compare_overall(final: pd.DataFrame, settings: list[str], baseline: str | None, *, seed: int = 0) -> pd.DataFrame:
    """The same over all tasks at once, on normalized losses (`1 - normalize_scores`), all tasks weighing alike.

    Returns:
        As `compare`, with `setting` = `OVERALL`; empty with fewer than two tasks.
    """
    scored = final.assign(shortfall=1 - normalize_scores(final))
    scored = scored[scored["setting"].isin(settings)].dropna(subset="shortfall")
    tables = [
        group.pivot(index="seed", columns="optimizer", values="shortfall") for _, group in scored.groupby("setting")
    ]
    pool = set.intersection(*(set(table.columns) for table in tables)) if tables else set()
    rows = []
    for optimizer in sorted(pool - {baseline}):
        if baseline not in pool or len(tables) < 2:
            continue
        pairs = [table[[optimizer, baseline]].dropna() for table in tables]
        differences = [(pair[optimizer] - pair[baseline]).to_numpy() for pair in pairs]
        interval = paired_interval(differences, seed=seed, label=f"{OVERALL}|{optimizer}|{baseline}")
        mine = scored[scored["optimizer"].isin([optimizer, baseline])]
        rows.append({
            "setting": OVERALL, "optimizer": optimizer, "baseline": baseline,
            "loss": np.mean([pair[optimizer].mean() for pair in pairs]),
            "baseline_loss": np.mean([pair[baseline].mean() for pair in pairs]), "sigma": math.nan,
            "num_diverged": int(((mine["optimizer"] == optimizer) & (mine["status"] == "diverged")).sum()),
            "num_diverged_baseline": int(((mine["optimizer"] == baseline) & (mine["status"] == "diverged")).sum()),
            "fresh": bool(mine["fresh"].all()), **interval,
        })  # fmt: skip
    return _conclude(pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "verdict"]))


def _conclude(table: pd.DataFrame) -> pd.DataFrame:
    counted = table["num_pairs"] >= MIN_PAIRS
    table["num_comparisons"] = int(counted.sum())
    table["p_holm"] = 1.0
    table.loc[counted, "p_holm"] = holm(list(table.loc[counted, "p_value"]))
    # A normalized loss is a share already.
    comparable = (table["baseline_loss"] != 0) & (table["setting"] != OVERALL)
    table["relative"] = table["difference"] / table["baseline_loss"].abs().where(comparable)
    # Holm's first and hardest step: what is found at this level is found wherever it stands in the order.
    alpha = ALPHA / max(int(counted.sum()), 1)
    table["detectable"] = [
        detectable_difference(s, n, alpha) for s, n in zip(table["sigma"], table["num_pairs"], strict=True)
    ]
    table["seeds_needed"] = [
        pairs_needed(d, s, alpha) for d, s in zip(table["difference"], table["sigma"], strict=True)
    ]
    table["verdict"] = [_verdict(row) for _, row in table.iterrows()]
    return table.reindex(columns=COLUMNS)


def _verdict(row: pd.Series) -> str:
    if 0 < row["num_pairs"] == row["num_diverged"] == row["num_diverged_baseline"]:
        return "both diverged"
    if row["num_pairs"] < MIN_PAIRS:
        return "too few seeds"
    if row["difference"] == 0 and row["low"] == row["high"] == 0:
        return "identical"
    if row["p_holm"] > ALPHA or row["low"] <= 0 <= row["high"]:
        return "not distinguishable"
    return "better" if row["difference"] < 0 else "worse"
