"""The judge's own words at the head of a report that has its runs: they go before everything counted anew."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.analysis.judged import TaskVerdict, Verdict
from bench.analysis.pairs import SEARCH
from bench.analysis.selection import shortlist
from bench.analysis.sequential import UNRESOLVED
from bench.errors import clean_text, count_of
from bench.report.sentences import MAX_NAMED, VERDICT_ORDER
from bench.report.table import MISSING, Table, make_table, ratio_text

Answers = Sequence[tuple[Path, Verdict]]


def only_tasks(answers: Answers, tasks: set[str]) -> list[tuple[Path, Verdict]]:
    """What was said on these tasks."""
    parts = [
        (folder, verdict.model_copy(update={"tasks": [task for task in verdict.tasks if task.task in tasks]}))
        for folder, verdict in answers
    ]
    return [(folder, part) for folder, part in parts if part.tasks]


def judge_sentences(answers: Answers) -> str:
    """A sentence for each candidate, and that all else on the page is no verdict of the judge; "" without any."""
    if not answers:
        return ""
    several = len({folder for folder, _ in answers}) > 1
    said = [
        f"The judge{f' in {folder}' if several else ''} on {clean_text(verdict.candidate)} against "
        f"{clean_text(verdict.baseline)}: {_words(verdict)}."
        for folder, verdict in answers[:MAX_NAMED]
    ]
    if (more := len(answers) - MAX_NAMED) > 0:
        said.append(f"Its words on {more} more are in the table.")
    rest = "All else here is one look at all runs that lie here, under another correction, and no second verdict."
    return " ".join([*said, rest])


def judge_tables(answers: Answers) -> list[Table]:
    """Every word with its ratio and interval; none without verdicts."""
    rows = [
        (clean_text(task.task), clean_text(verdict.candidate), clean_text(verdict.baseline), str(folder), task.verdict,
         *_figures(task), task.looks[-1].searches, _failures(task))
        for folder, verdict in answers
        for task in verdict.tasks
    ]  # fmt: skip
    names = ["task", "candidate", "against", "folder", "verdict", "loss ×", "interval", "searches", "failed searches"]
    frame = pd.DataFrame(rows, columns=names)
    shown = {name: name for name in names if name != "folder" or frame["folder"].nunique() > 1}
    note = (
        "Ratio of final test losses at the judge's last look, below 1 is better for the candidate. The interval has "
        "the level that this look may spend, so it is wider than one of 95 %. Searches: of each side; failed: of the "
        "candidate and of the baseline."
    )
    return [make_table(frame, shown, title="The judge's words", note=note)] if rows else []


def _words(verdict: Verdict) -> str:
    """The decided tasks first; figures of unresolved ones stand in the table where there are many."""
    parts = []
    for word in VERDICT_ORDER:
        tasks = [task for task in verdict.tasks if task.verdict == word]
        brief = word == UNRESOLVED and len(verdict.tasks) > MAX_NAMED
        names = [clean_text(task.task) if brief else _describe(task) for task in tasks]
        parts += [f"{word} on {shortlist(names, MAX_NAMED)}"] if names else []
    for word in sorted({task.failure_verdict for task in verdict.tasks} - {""}):
        names = [clean_text(task.task) for task in verdict.tasks if task.failure_verdict == word]
        parts.append(f"{word} on {shortlist(names, MAX_NAMED)}")
    return "; ".join(parts)


def _describe(task: TaskVerdict) -> str:
    effect, interval = _figures(task)
    searches = task.looks[-1].searches
    if effect == MISSING:
        return f"{clean_text(task.task)} ({count_of(searches, SEARCH)} of each, no loss of both)"
    span = "no interval" if interval == MISSING else f"interval {interval}"
    return f"{clean_text(task.task)} (loss × {effect}, {span}, {count_of(searches, SEARCH)} of each)"


def _figures(task: TaskVerdict) -> tuple[str, str]:
    """The ratio and its interval."""
    last = task.looks[-1]
    effect, low, high = (MISSING if x is None else ratio_text(x) for x in (last.difference, last.low, last.high))
    return effect, MISSING if MISSING in (low, high) else f"{low} to {high}"


def _failures(task: TaskVerdict) -> str:
    last = task.looks[-1]
    counts = f"{last.failed} and {last.baseline_failed}"
    return f"{counts}: {task.failure_verdict}" if task.failure_verdict else counts
