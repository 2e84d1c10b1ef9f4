"""How much of an optimizer's lead does averaging have? AdamW, Muon, both averaged, and schedule-free AdamW.

    python scripts/averaging_study.py [--out results/reference/averaging] [suite=core | task=mlp,...] [KEY=VALUE...]

Every arm is judged against AdamW by the procedure of `python -m bench.judge`: searches of its own, planned looks, one
error for all that is asked in one folder. One training serves the arm with and the one without averages, whose searches
choose by other losses: `+EMA` by the lowest of the weights in training and of two moving averages. The same command
goes on where it was stopped, and the tables are written after every look.
"""

import argparse
import csv
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from common import describe_machine, publish

from bench.analysis.sequential import BETTER, SAME, UNRESOLVED, WORSE
from bench.judge.judge import Judge
from bench.judge.question import Arm, Question, parse_question

EMA = ("average=ema", "average.decays=[0.9,0.98]")
BY_BEST = "sweep.objective=best"
BASELINE = Arm("AdamW", "adamw", EMA)
CANDIDATES = (
    Arm("AdamW+EMA", "adamw", (*EMA, BY_BEST)),
    Arm("Muon", "muon", EMA),
    Arm("Muon+EMA", "muon", (*EMA, BY_BEST)),
    Arm("schedule-free", "schedule_free_adamw", ("schedule=constant",)),
)
LARGEST_LOGARITHM = math.log(sys.float_info.max)
WORDS = (BETTER, SAME, WORSE, UNRESOLVED)
Row = dict[str, Any]


def ask(overrides: Sequence[str]) -> Iterator[Judge]:
    """A judge for each candidate, all in one folder and on the same tasks."""
    asked = parse_question(["optimizer=adamw", "results_dir=results/averaging", "report=false", *overrides])
    for arm in CANDIDATES:
        yield Judge(Question(arm, BASELINE, asked.tasks, None, asked.results_dir, False, asked.overrides, ()))


def look(judges: Sequence[Judge]) -> Iterator[None]:
    """Train up to one planned look after the other, task by task, each on all arms."""
    for _ in zip_longest(*(judge.look() for judge in judges)):
        yield


def make_rows(judges: Sequence[Judge]) -> list[Row]:
    """One row per task and candidate that was looked at; ratios of test losses to AdamW's."""
    return [
        {
            "task": progress.task,
            "arm": judge.question.candidate.label,
            "searches": last.num_searches,
            "ratio": as_ratio(last.difference),
            "low": as_ratio(last.low),
            "high": as_ratio(last.high),
            "margin": as_ratio(progress.margin),
            "verdict": last.verdict,
            "failed": last.num_failed,
            "adamw_failed": last.num_baseline_failed,
        }
        for judge in judges
        for progress in judge.tasks
        for last in progress.looks[-1:]
    ]


def share_of_lead(rows: Sequence[Row], arm: str) -> Iterator[str]:
    """By task on which `arm` is better than AdamW, how much of the logarithm of its ratio an averaged AdamW has too."""
    ratios = {(row["task"], row["arm"]): row["ratio"] for row in rows}
    for row in rows:
        averaged = ratios.get((row["task"], "AdamW+EMA"))
        if row["arm"] == arm and row["verdict"] == BETTER and averaged is not None:
            yield f"{row['task']} {math.log(averaged) / math.log(row['ratio']):.0%}"


def make_lines(rows: Sequence[Row]) -> list[str]:
    lines = ["| arm | tasks | " + " | ".join(WORDS) + " |", "| --- | --- |" + " --- |" * len(WORDS)]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        counts = " | ".join(str(sum(row["verdict"] == word for row in own)) for word in WORDS)
        lines.append(f"| {arm} | {len(own)} | {counts} |")
    lines.append("")
    for arm in ("Muon", "schedule-free"):
        shares = ", ".join(share_of_lead(rows, arm)) or f"{arm} is shown to be better on no task"
        lines.append(f"Share of {arm}'s lead that AdamW+EMA has: {shares}.")
    lines += ["", "| task | arm | searches | ratio | from | to | margin | verdict | failed | AdamW failed |"]
    lines.append("| --- |" + " --- |" * 9)
    for row in sorted(rows, key=lambda row: str(row["task"])):
        figures = " | ".join(format_ratio(row[name]) for name in ("ratio", "low", "high", "margin"))
        ends = f"{row['verdict']} | {row['failed']} | {row['adamw_failed']}"
        lines.append(f"| {row['task']} | {row['arm']} | {row['searches']} | {figures} | {ends} |")
    return [*lines, "", describe_machine("cpu")]


def as_ratio(difference: float) -> float:
    """Of a difference of logarithms, inf where no number is as large: intervals of few searches are wide."""
    return math.exp(difference) if difference < LARGEST_LOGARITHM else math.inf


def format_ratio(ratio: float) -> str:
    """Three digits; what lies beyond a factor of a million, as an interval of few searches may, only as that."""
    if math.isnan(ratio):
        return "-"
    return f"{ratio:.3g}" if 1e-6 <= ratio <= 1e6 else "< 1e-6" if ratio < 1 else "> 1e6"


def write_tables(rows: Sequence[Row], out: Path) -> None:
    publish(make_lines(rows), out / "table.md")
    with (out / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/reference/averaging"))
    options, overrides = parser.parse_known_args()
    judges = list(ask(overrides))
    for _ in look(judges):
        write_tables(make_rows(judges), options.out)


if __name__ == "__main__":
    main()
