"""The report's prose: every sentence that is made from numbers."""

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.comparability import format_scale
from bench.analysis.epsilon import DEFAULT_EPS, EPS
from bench.analysis.findings import Findings
from bench.analysis.frames import each
from bench.analysis.intervals import MIN_PAIRS
from bench.analysis.power import MAX_SEEDS
from bench.analysis.verdicts import OVERALL
from bench.report.table import signed

MAX_SENTENCES = 40
VERDICT_ORDER = ("better", "worse", "identical", "not distinguishable", "too few seeds", "both diverged")


def lead(found: Findings) -> str:
    """The first sentence of the report: how many comparisons ended how."""
    counts = found.verdicts["verdict"].value_counts()
    if counts.empty:
        return "One optimizer per setting: there is nothing to compare it with."
    names = sorted(set(found.baselines.values()))
    parts = [f"{counts[verdict]} {verdict}" for verdict in VERDICT_ORDER if verdict in counts]
    total = counts.sum()
    noun = "comparison" if total == 1 else "comparisons"
    return f"{total} {noun} with {' and '.join(names[:3])}: {', '.join(parts)}.{_scale_lead(found)}"


def _scale_lead(found: Findings) -> str:
    moved = found.scales.groupby("optimizer")[["num_pairs", "num_identical"]].sum()
    still = sorted(moved.index[moved["num_identical"] == moved["num_pairs"]])
    if not still:
        return ""
    others = sorted(set(moved.index) - set(still))
    text = f" At another scale of the loss {', '.join(still)} repeats every loss bit for bit"
    return f"{text}; {', '.join(others)} {'does' if len(others) == 1 else 'do'} not." if others else f"{text}."


def sentences(found: Findings) -> dict[str, list[tuple[str, str]]]:
    """Heading -> (headline, details) generated from the numbers, the decided comparisons first."""
    order = {verdict: index for index, verdict in enumerate(VERDICT_ORDER)}
    table = found.verdicts.sort_values("verdict", key=lambda verdict: verdict.map(order), kind="stable")
    blocks = {
        "Final loss": [(headline(row), details(row)) for row in each(table)],
        "Over all tasks": [(headline(row), details(row)) for row in each(found.overall)],
        "Epsilon": eps_sentences(found.flat_widths, found.responses),
        "Loss scale": scale_sentences(found.scales),
        "Time to target": speed_sentences(found.speedups, found.targets),
    }
    shortened = {}
    for heading, lines in blocks.items():
        more = len(lines) - MAX_SENTENCES
        rest = [(f"{more} more", "in the tables.")] if more > 0 else []
        shortened[heading] = lines[:MAX_SENTENCES] + rest
    return {heading: lines for heading, lines in shortened.items() if lines}


def headline(row: Any) -> str:
    """What a comparison says, in one clause."""
    pair = f"{row.setting}: {row.optimizer} and {row.baseline}"
    what = "normalized loss" if row.setting == OVERALL else "final validation loss"
    if row.num_pairs == 0:
        return f"{pair} are not compared"
    if row.verdict == "both diverged":
        return f"{pair} both diverged"
    if row.verdict == "identical":
        return f"{pair} have the same {what}"
    if row.verdict in ("better", "worse"):
        side = "lower" if row.verdict == "better" else "higher"
        return f"{row.setting}: {row.optimizer} has a {side} {what} than {row.baseline}"
    return f"{pair} are not distinguishable"


def details(row: Any) -> str:
    """The figures behind `headline`."""
    pairs = f"{row.num_pairs:g} paired {'fresh ' if row.fresh else ''}seeds{_diverged(row)}"
    if row.num_pairs == 0:
        return "they share no seed, so nothing can be paired."
    if row.verdict in ("both diverged", "identical"):
        return f"on every one of {pairs}."
    difference = f"difference {signed(row.difference)}"
    if math.isfinite(row.relative):
        difference += f" ({signed(100 * row.relative, 2)} %)"
    if row.verdict == "too few seeds":
        return f"{difference} on {pairs}, and fewer than {MIN_PAIRS} seeds carry no interval."
    span = f"{difference}, 95 % interval {signed(row.low)} to {signed(row.high)}, {pairs}."
    if row.verdict != "not distinguishable":
        return span
    if not row.low <= 0 <= row.high:
        span += f" Corrected for {row.num_comparisons:g} comparisons, p is {row.p_holm:.2g}."
    return span + _outlook(row)


def _diverged(row: Any) -> str:
    counts = [(row.optimizer, row.num_diverged), (row.baseline, row.num_diverged_baseline)]
    parts = [f"{name} diverged on {count:g}" for name, count in counts if count]
    return f" ({', '.join(parts)}; counted as untrained)" if parts else ""


def _outlook(row: Any) -> str:
    if not math.isfinite(row.detectable):
        return ""
    needed = f"about {row.seeds_needed:g}" if math.isfinite(row.seeds_needed) else f"more than {MAX_SEEDS}"
    return (
        f" This many seeds detect a difference of {row.detectable:.2g} or more in 80 % of cases; the observed one "
        f"would need {needed}."
    )


def eps_sentences(widths: pd.DataFrame, curves: pd.DataFrame) -> list[tuple[str, str]]:
    """A headline and its details for each sweep of eps: its flat region, and whether PyTorch's default lies in it.

    Args:
        widths: From `sensitivity.flat_widths`.
        curves: From `sensitivity.response_curves`.
    """
    sentences = []
    for row in each(widths[(widths["key"] == EPS) & widths["width"].notna()]):
        bound = "at least " if row.open_low or row.open_high else ""
        who = f"{row.setting}: the flat region of {row.optimizer}'s eps is {bound}{row.width:.1f} decades wide"
        text = (
            f"from {_short(row.low)} to {_short(row.high)} the median final loss stays within {row.delta:.2g} of the "
        )
        text += f"best, {row.best_loss:.4g}"
        mine = curves[(curves["key"] == EPS) & (curves["setting"] == row.setting) & (curves["sweep"] == row.sweep)
                      & (curves["optimizer"] == row.optimizer)]  # fmt: skip
        default = mine[np.isclose(mine["value"], DEFAULT_EPS, rtol=1e-6, atol=0)]
        if len(default):
            loss = default["loss"].iloc[0]
            side = "inside" if row.low <= DEFAULT_EPS <= row.high else "outside"
            reached = f"{loss:.4g}" if math.isfinite(loss) else "no finite loss"
            text += f"; the default {_short(DEFAULT_EPS)} lies {side} and reaches {reached}"
        sentences.append((who, f"{text}."))
    return sentences


def _short(value: float) -> str:
    return f"{value:.1g}".replace("e-0", "e-")


def scale_sentences(comparison: pd.DataFrame) -> list[tuple[str, str]]:
    """A headline and its details per task, optimizer and scale."""
    sentences = []
    for row in each(comparison):
        scales = f"with the loss × {format_scale(row.loss_scale)} instead of × {format_scale(row.reference_scale)}"
        who = f"{row.task}: {row.optimizer}"
        if row.num_identical == row.num_pairs:
            sentences.append((f"{who} repeats every loss bit for bit", f"{scales}, {row.num_pairs} pairs of runs."))
        else:
            identical = f"{row.num_identical} of {row.num_pairs} pairs of runs are bit-identical"
            change = f"the median final loss changes by {signed(row.median_change)}"
            sentences.append((f"{who} moves", f"{scales}, {identical}; {change}."))
    return sentences


def speed_sentences(table: pd.DataFrame, targets: pd.DataFrame) -> list[tuple[str, str]]:
    """A headline and its details for each comparison whose target somebody reached."""
    goals = {goal.setting: goal for goal in each(targets)}
    sentences = []
    for row in each(table[table["fewer_steps"].notna()]):
        goal = goals[row.setting]
        what = f"{goal.metric} {'≤' if goal.mode == 'min' else '≥'} {goal.value:g}"
        who = f"{row.setting}: {row.optimizer}"
        reached = f"to {what}; {row.reached} and {row.reached_baseline} of {row.num_pairs} seeds arrive."
        if row.fewer_steps == 0:
            sentences.append((f"{who} does not reach the target, {row.baseline} does", reached))
        elif math.isinf(row.fewer_steps):
            sentences.append((f"{who} reaches the target, {row.baseline} does not", reached))
        else:
            headline = f"{who} needs {1 / row.fewer_steps:.2f} × the steps of {row.baseline}"
            sentences.append((headline, f"to {what}{_describe_ratio(row)}"))
    return sentences


def _describe_ratio(row: Any) -> str:
    span = ""
    if row.low > 0 and math.isfinite(row.high):
        span = f", 95 % interval {1 / row.high:.2f} to {1 / row.low:.2f}"
    if not math.isfinite(row.cheaper_step):
        return f"{span}; the cost of a step was not measured alone."
    clock = "derived from steps timed alone" if row.derived else "measured"
    return (
        f"{span}; a step costs {1 / row.cheaper_step:.2f} × as much: {row.speedup:.2f} × as fast in seconds ({clock})."
    )
