"""The report's prose: every sentence that is made from numbers."""

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.comparability import format_scale
from bench.analysis.epsilon import DEFAULT_EPS, EPS
from bench.analysis.findings import Findings
from bench.analysis.frames import each
from bench.analysis.intervals import ALPHA, MIN_UNITS
from bench.analysis.pairs import SEARCH
from bench.analysis.power import MAX_UNITS
from bench.analysis.selection import shortlist
from bench.analysis.sequential import BETTER, FAILS_LESS, FAILS_MORE, SAME, UNRESOLVED, WORSE
from bench.analysis.verdicts import ALL_FAILED, DISAGREE, OVERALL, TOO_FEW
from bench.errors import count_of, plural
from bench.report.figures.style import format_number
from bench.report.table import percent_change, ratio_text, signed

MAX_SENTENCES = 40
MAX_NAMED = 6  # in the first sentences
VERDICT_ORDER = (BETTER, WORSE, SAME, UNRESOLVED, DISAGREE, TOO_FEW, ALL_FAILED)
Sentence = tuple[str, str]


def lead(found: Findings) -> str:
    """The first sentences of the report: how many comparisons ended how, which are decided, and what they speak of."""
    tasks = found.verdicts[found.verdicts["setting"] != OVERALL]
    if tasks.empty:
        return "One optimizer per setting: there is nothing to compare it with."
    names = set(found.baselines.values())
    whom = next(iter(names)) if len(names) == 1 else f"the baseline of each task ({shortlist(names, 3)})"
    counts = tasks["verdict"].value_counts()
    parts = [f"{counts[verdict]} {verdict}" for verdict in VERDICT_ORDER if verdict in counts]
    failing = tasks["failure_verdict"].value_counts()
    parts += [f"{failing[verdict]} {verdict}" for verdict in (FAILS_MORE, FAILS_LESS) if verdict in failing]
    text = f"{count_of(len(tasks), 'comparison')} with {whom}: {', '.join(parts)}."
    return f"{text}{_decided(tasks)} {_scope(tasks)}{_scale_lead(found)}"


def _decided(tasks: pd.DataFrame) -> str:
    """Who is better and who worse, by name."""
    parts = []
    for verdict in (BETTER, WORSE):
        pairs = [f"{row.optimizer} on {row.setting}" for row in each(tasks[tasks["verdict"] == verdict])]
        more = f" and {len(pairs) - MAX_NAMED} more" if len(pairs) > MAX_NAMED else ""
        parts += [f"{verdict}: {', '.join(pairs[:MAX_NAMED])}{more}"] if pairs else []
    text = "; ".join(parts)
    return f" {text[0].upper()}{text[1:]}." if text else ""


def _scope(tasks: pd.DataFrame) -> str:
    units = set(tasks["unit"])
    if units == {SEARCH}:
        return "They speak of optimizers, each tuned by several independent searches."
    if SEARCH in units:
        return "Some speak of optimizers tuned by several searches, those with one search each of settings only."
    return "One search each, or none: they speak of these settings, not of the optimizers."


def _scale_lead(found: Findings) -> str:
    moved = found.scales.groupby("optimizer")[["num_pairs", "num_identical"]].sum()
    still = sorted(moved.index[moved["num_identical"] == moved["num_pairs"]])
    if not still:
        return ""
    others = sorted(set(moved.index) - set(still))
    text = f" At another scale of the loss {', '.join(still)} repeats every loss bit for bit"
    return f"{text}; {', '.join(others)} {'does' if len(others) == 1 else 'do'} not." if others else f"{text}."


def sentences(found: Findings) -> dict[str, list[Sentence]]:
    """Heading -> (headline, details) generated from the numbers, the decided comparisons first."""
    order = {verdict: index for index, verdict in enumerate(VERDICT_ORDER)}
    table = found.verdicts.sort_values("verdict", key=lambda verdict: verdict.map(order), kind="stable")
    overall = table["setting"] == OVERALL
    blocks = {
        "Over all tasks": [(headline(row), details(row)) for row in each(table[overall])],
        "Final loss": [(headline(row), details(row)) for row in each(table[~overall])],
        "Failures": [failure_sentence(row) for row in each(table[~overall]) if row.failed or row.baseline_failed],
        "Time to target": speed_sentences(found.speedups, found.targets),
        "Epsilon": eps_sentences(found.flat_widths, found.responses),
        "Loss scale": scale_sentences(found.scales),
    }
    return {heading: _shorten(lines) for heading, lines in blocks.items() if lines}


def _shorten(lines: list[Sentence]) -> list[Sentence]:
    more = len(lines) - MAX_SENTENCES
    return lines[:MAX_SENTENCES] + ([(f"{more} more", "in the tables.")] if more > 0 else [])


def headline(row: Any) -> str:
    """What a comparison says, in one clause."""
    who = f"{row.optimizer}{'' if row.unit == SEARCH else ' at its setting'}"
    pair = f"{row.setting}: {who} and {row.baseline}"
    if row.verdict == ALL_FAILED:
        return f"{pair} failed always"
    if row.verdict == SAME:
        return f"{pair} are practically the same"
    if row.verdict in (BETTER, WORSE):
        side = "lower" if row.verdict == BETTER else "higher"
        return f"{row.setting}: {who} ends at a {side} {row.split} loss than {row.baseline}"
    if row.verdict == DISAGREE:
        return f"{pair}: the tasks disagree"
    if row.verdict == TOO_FEW and row.num_units:
        return f"{pair}: too few {plural(row.unit)}"
    return f"{pair} are {'not compared' if row.num_units == 0 else UNRESOLVED}"


def details(row: Any) -> str:
    """The figures behind `headline`."""
    unit = plural(row.unit)
    if row.verdict == ALL_FAILED:
        return f"on every one of {row.failed_of:g} and {count_of(row.baseline_failed_of, row.unit)}."
    if row.num_units == 0:
        return f"they have no {unit} in common on which both succeeded."
    if row.verdict == DISAGREE:
        return "better on some and worse, or failing more often, on others; there is no word for all of them."
    kind = "paired fresh " if row.fresh and row.unit != SEARCH else "paired "
    count = count_of(row.num_units, f"{kind}{row.unit}")
    effect = effect_text(row)
    if row.verdict == TOO_FEW:
        return f"{effect} on {count}, and fewer than {MIN_UNITS} carry no interval."
    text = f"{effect}, 95 % interval {interval_text(row)}, {count}{margin_text(row)}."
    if row.verdict == UNRESOLVED:
        text += _outlook(row)
    return text


def effect_text(row: Any) -> str:
    """loss × 0.93 (−7 %); a plain difference where losses have no logarithm."""
    if row.scale != "log":
        return f"difference {signed(row.difference)}"
    change = percent_change(row.difference)
    return f"loss × {ratio_text(row.difference)}" + (f" ({change})" if change else "")


def interval_text(row: Any) -> str:
    """0.91 to 0.95."""
    write = ratio_text if row.scale == "log" else signed
    return f"{write(row.low)} to {write(row.high)}"


def margin_text(row: Any) -> str:
    """The margin that matters, as a ratio both ways."""
    if math.isnan(row.relevant):
        return "; no margin of relevance is declared"
    return f"; what matters begins at × {ratio_text(-row.relevant)} and × {ratio_text(row.relevant)}"


def _outlook(row: Any) -> str:
    text = ""
    if not row.low <= 0 <= row.high:
        text += f" Corrected for {row.num_claims:g} claims, p is {row.p_holm:.2g}, above {ALPHA:g}."
    unit = plural(row.unit)
    if math.isfinite(row.detectable) and row.scale == "log":
        text += f" This many detect a loss × {ratio_text(-row.detectable)} in 80 % of cases"
        if not math.isnan(row.units_needed):
            needed = f"about {row.units_needed:g}" if math.isfinite(row.units_needed) else f"more than {MAX_UNITS:,}"
            text += f"; the margin takes {needed} {unit}"
        text += "."
    return text


def failure_sentence(row: Any) -> Sentence:
    """How often both sides failed, with exact intervals."""

    def rate(failed: float, units: float, low: float, high: float) -> str:
        return f"{failed:g} of {count_of(units, row.unit)} (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"

    mine = rate(row.failed, row.failed_of, row.failed_low, row.failed_high)
    other = rate(row.baseline_failed, row.baseline_failed_of, row.baseline_failed_low, row.baseline_failed_high)
    verdict = row.failure_verdict or "fails, not distinguishably often"
    text = f"{mine} against {other}; exact p, corrected, {row.failure_p_holm:.2g}. Losses are those of successes."
    return f"{row.setting}: {row.optimizer} {verdict} than {row.baseline}" if row.failure_verdict else (
        f"{row.setting}: failures of {row.optimizer} and {row.baseline} are not distinguishable"
    ), text  # fmt: skip


def eps_sentences(widths: pd.DataFrame, curves: pd.DataFrame) -> list[Sentence]:
    """A headline and its details for each grid of eps: its flat region, and whether PyTorch's default lies in it.

    Args:
        widths: From `sensitivity.flat_widths`.
        curves: From `sensitivity.response_curves`.
    """
    lines = []
    for row in each(widths[(widths["key"] == EPS) & widths["width"].notna()]):
        bound = "at least " if row.open_low or row.open_high else ""
        who = f"{row.setting}: the flat region of {row.optimizer}'s eps is {bound}{row.width:.1f} decades wide"
        text = (
            f"from {_short(row.low)} to {_short(row.high)} the median final validation loss stays within "
            f"{row.delta:.2g} of the best, {row.best_loss:.4g}"
        )
        mine = curves[(curves["key"] == EPS) & (curves["setting"] == row.setting) & (curves["sweep"] == row.sweep)
                      & (curves["optimizer"] == row.optimizer)]  # fmt: skip
        default = mine[np.isclose(mine["value"], DEFAULT_EPS, rtol=1e-6, atol=0)]
        if len(default):
            loss = default["loss"].iloc[0]
            side = "inside" if row.low <= DEFAULT_EPS <= row.high else "outside"
            reached = f"{loss:.4g}" if math.isfinite(loss) else "no finite loss"
            text += f"; the default {_short(DEFAULT_EPS)} lies {side} and reaches {reached}"
        lines.append((who, f"{text}."))
    return lines


def _short(value: float) -> str:
    return f"{value:.1g}".replace("e-0", "e-")


def scale_sentences(comparison: pd.DataFrame) -> list[Sentence]:
    """A headline and its details per task, optimizer and scale."""
    lines = []
    for row in each(comparison):
        scales = f"with the loss × {format_scale(row.loss_scale)} instead of × {format_scale(row.reference_scale)}"
        who = f"{row.task}: {row.optimizer}"
        if row.num_identical == row.num_pairs:
            lines.append(
                (f"{who} repeats every loss bit for bit", f"{scales}, {count_of(row.num_pairs, 'pair')} of runs.")
            )
        else:
            identical = f"bit-identical: {row.num_identical} of {count_of(row.num_pairs, 'pair')} of runs"
            change = f"the median final loss changes by {signed(row.median_change)}"
            lines.append((f"{who} moves", f"{scales}, {identical}; {change}."))
    return lines


def speed_sentences(table: pd.DataFrame, targets: pd.DataFrame) -> list[Sentence]:
    """A headline and its details for each comparison whose target somebody reached."""
    goals = {goal.setting: goal for goal in each(targets)}
    lines = []
    for row in each(table):
        arrived, other = row.missed_of - row.missed, row.baseline_missed_of - row.baseline_missed
        if not arrived and not other:
            continue
        goal = goals[row.setting]
        what = f"to {goal.metric} {'≤' if goal.mode == 'min' else '≥'} {format_number(goal.value)}"
        who = f"{row.setting}: {row.optimizer}"
        whole = count_of(row.baseline_missed_of, row.unit)
        counts = f"{arrived:g} of {row.missed_of:g} against {other:g} of {whole} arrive"
        if row.num_units == 0:
            late = f"{who} does not reach the target, {row.baseline} does" if other else (
                f"{who} reaches the target, {row.baseline} does not"
            )  # fmt: skip
            lines.append((late, f"{what}; {counts}."))
        else:
            headline_text = f"{who} needs {format_number(row.steps_ratio)} × the steps of {row.baseline}"
            lines.append((headline_text, f"{what}{_ratio_details(row, counts)}"))
    return lines


def _ratio_details(row: Any, counts: str) -> str:
    span = "" if math.isnan(row.steps_low) else f", 95 % interval {_span(row.steps_low, row.steps_high)}"
    given = "" if row.missed == row.baseline_missed == 0 else ", where both arrive"
    text = f"{span}{given}; {counts}; {_mean_crossings(row)}"
    if math.isnan(row.cost_ratio):
        return f"{text}seconds: not measured."
    cost = f"a step costs {format_number(row.cost_ratio)} × as much ({_span(row.cost_low, row.cost_high)}, "
    rounds = count_of(row.num_rounds, "interleaved round")
    text += f"{cost}{rounds}), which makes {format_number(row.seconds_ratio)} × the seconds"
    return f"{text}." if math.isnan(row.seconds_low) else f"{text} ({_span(row.seconds_low, row.seconds_high)})."


def _mean_crossings(row: Any) -> str:
    """Where the means over runs arrive, which is another question than each run's own step."""
    own = f"arrives at step {row.mean_steps:g}" if math.isfinite(row.mean_steps) else "never arrives"
    other = f"at step {row.baseline_mean_steps:g}" if math.isfinite(row.baseline_mean_steps) else "never"
    return f"the mean over its runs {own}, {row.baseline}'s {other}; "


def _span(low: float, high: float) -> str:
    return f"{format_number(low)} to {format_number(high)}"
