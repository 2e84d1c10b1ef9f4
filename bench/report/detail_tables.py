"""The tables behind the verdicts: what varies, who comes first, and how much a hyperparameter matters."""

import math
from collections.abc import Iterable

import pandas as pd

from bench.analysis.findings import Findings
from bench.analysis.frames import each
from bench.analysis.importance import MIN_EXPLAINED, MIN_TRIALS
from bench.analysis.scores import BELOW_NOISE, is_below_noise
from bench.analysis.verdicts import OVERALL
from bench.errors import count_of
from bench.report.figures.style import format_number
from bench.report.table import MISSING, Table, finite, make_table, plain, ratio_text


def sensitivity_tables(found: Findings) -> list[Table]:
    """Flat widths, edges of grids, drift of the best lr, importances, loss scales; those that have rows."""
    edges = make_table(
        found.edges.assign(key=_short(found.edges["key"])),
        {"setting": "task", "optimizer": "optimizer", "key": "key", "value": "best value", "direction": "look"},
        title="Best cells on an edge",
        note="The true best may lie outside what was tried: widen the range there.",
    )
    scales = make_table(
        found.scales,
        {"task": "task", "optimizer": "optimizer", "loss_scale": "loss scale", "num_pairs": "pairs of runs",
         "num_identical": "bit-identical", "max_difference": "largest difference",
         "median_change": "median change of the final loss"},
        title="The same trial at another loss scale",
        note="Every loss column at every evaluation is compared bit by bit with the unscaled run.",
    )  # fmt: skip
    tables = (_width_table(found.flat_widths), edges, _drift_table(found.drift), _importance_table(found.importances),
              scales)  # fmt: skip
    return [table for table in tables if table.rows]


def _short(keys: Iterable[str]) -> list[str]:
    return [key.removeprefix("optimizer.") for key in keys]


def _width_table(widths: pd.DataFrame) -> Table:
    rows = list(each(widths))
    frame = widths.assign(
        width=[f"{'≥ ' if row.open_low or row.open_high else ''}{row.width:.2f} {row.unit}" for row in rows],
        key=_short(widths["key"]),
        interval=[
            MISSING if math.isnan(row.width_low) else f"{row.width_low:.2f} to {row.width_high:.2f}" for row in rows
        ],
    )
    columns = {"setting": "task", "optimizer": "optimizer", "key": "key", "best": "best value", "width": "flat width",
               "interval": "95 % interval", "num_seeds": "seeds", "low": "from", "high": "to",
               "delta": "allowed worsening"}  # fmt: skip
    note = (
        "≥: the grid ends before the flat region does. Interval: percentiles of the widths that resampled seeds give, "
        "each drawn with its losses at all values; with three to five seeds it covers rather 80 % than 95 %, and of "
        "the spacing of the grid it knows nothing."
    )
    return make_table(frame, columns, title="Flat widths", note=note)


def _drift_table(drift: pd.DataFrame) -> Table:
    frame = drift[drift["learned"].astype(bool)].groupby(["setting", "optimizer"], sort=False).agg(
        drift=("drift", "first"), slope=("slope", "first"), low=("best_lr", "min"), high=("best_lr", "max")
    ).reset_index()  # fmt: skip
    columns = {"setting": "task", "optimizer": "optimizer", "drift": "drift of the best lr (decades)",
               "slope": "slope (lr per eps)", "low": "lowest best lr", "high": "highest best lr"}  # fmt: skip
    note = "Over the eps at which something is learned."
    return make_table(frame, columns, title="Drift of the best lr with eps", note=note)


def _importance_table(importances: pd.DataFrame) -> Table:
    frame = importances[importances["explained"] >= MIN_EXPLAINED]
    frame = frame.assign(
        key=_short(frame["key"]),
        interval=[f"{format_number(row.low)} to {format_number(row.high)}" for row in each(frame)],
        explained=[f"{100 * row.explained:.0f} %" for row in each(frame)],
    )
    columns = {"setting": "task", "optimizer": "optimizer", "key": "key", "importance": "importance",
               "interval": "95 % interval", "num_trials": "trials", "explained": "explained"}  # fmt: skip
    note = (
        "Growth of a random forest's squared error when the key is shuffled, in units of the variance of the ranks of "
        "losses: it may exceed 1; interval over trials. Explained: the forest's share on trials that it has not seen; "
        f"searches below {100 * MIN_EXPLAINED:.0f} %, or of fewer than {MIN_TRIALS} trials, are left out. It speaks of "
        "the ranges of this search alone, and another search of as many trials may order the keys otherwise."
    )
    return make_table(frame, columns, title="Importance of hyperparameters", note=note)


def pool_tables(found: Findings) -> list[Table]:
    """Noise, ranks and profile scores; those that have rows."""
    scores = make_table(
        found.profile_scores,
        {"measure": "measure", "optimizer": "optimizer", "score": "score (exact)",
         "trapezoid": "trapezoid, 100 points", "num_reached": "reached", "num_tasks": "tasks"},
        title="Area under the performance profile",
        note="(1/3) × the integral of ρ over 1 ≤ τ ≤ 4.",
    )  # fmt: skip
    tables = (rank_table(found), noise_table(found), _tuned_table(found), scores)
    return [table for table in tables if table.rows]


def rank_table(found: Findings) -> Table:
    """Ranks with their intervals."""
    frame = found.ranks.assign(
        interval=[f"{row.rank_low} to {row.rank_high}" for row in each(found.ranks)],
        p_best=[f"{100 * row.p_best:.0f} %" for row in each(found.ranks)],
        units=[count_of(row.num_units, row.unit) for row in each(found.ranks)],
    )
    columns = {
        "setting": "task", "optimizer": "optimizer", "rank": "rank", "interval": "95 % interval", "p_best": "P(best)",
        "units": "over", "num_failed": "failed",
    }  # fmt: skip
    note = (
        "By the mean logarithm of the final loss, given success. The interval of a rank counts who is surely better "
        "and who surely worse, by paired tests corrected among each other. P(best): share of resamples in which the "
        "optimizer comes first."
    )
    return make_table(frame, columns, title="Ranks", note=note)


def noise_table(found: Findings) -> Table:
    """What varies, and what the comparisons could have found."""
    table = found.verdicts[found.verdicts["setting"] != OVERALL]
    columns = {
        "setting": "task", "optimizer": "optimizer", "sd_searches": "sd between searches", "sd_seeds": "between seeds",
        "sigma_upper": "sd of a pair, at most", "num_units": "pairs", "relevant": "margin", "detectable": "detectable",
        "units_needed": "pairs for the margin",
    }  # fmt: skip
    note = (
        "Standard deviations of the logarithm of the final loss, of optimizer and baseline pooled; 0.01 is 1 %. "
        "Between searches: of what searches would give if each were scored on endless seeds; below noise: too little "
        "to be told from what their seeds explain, and not shown to be 0. Sd of a pair: upper limit "
        "(80 %) over all comparisons of the task; from it, and for the corrected level, the difference that this many "
        "pairs detect in 80 % of cases, and how many pairs would detect the margin."
    )
    hidden = is_below_noise(table["sd_searches"], table["sd_seeds"])
    table = table.assign(sd_searches=table["sd_searches"].map(plain).mask(hidden, BELOW_NOISE))
    return make_table(table, columns, title="Noise and power", note=note, formats={"detectable": finite})


def _tuned_table(found: Findings) -> Table:
    rows = list(each(found.tuned))
    frame = found.tuned.assign(
        ratio=[ratio_text(row.difference) for row in rows],
        interval=[
            MISSING if math.isinf(row.low) else f"{ratio_text(row.low)} to {ratio_text(row.high)}" for row in rows
        ],
    )
    columns = {"setting": "task", "optimizer": "optimizer", "ratio": "loss ×", "interval": "95 % interval",
               "num_searches": "searches"}  # fmt: skip
    note = (
        "Final validation loss of the chosen cell on fresh seeds over that of the optimizer's defaults, which every "
        "search tries first; geometric mean over searches, below 1 is a gain."
    )
    return make_table(frame, columns, title="Tuned against default", note=note)
