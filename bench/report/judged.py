"""The judge's own words at the head of a report that has its runs: they go before everything counted anew."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from bench.analysis.judged import TaskVerdict, Verdict
from bench.analysis.pairs import SEARCH
from bench.analysis.sequential import FAILS_LESS, FAILS_MORE
from bench.errors import clean_text, count_of
from bench.report.sentences import MAX_NAMED, VERDICT_ORDER
from bench.report.table import MISSING, Table, make_table, ratio_text

Answers = Sequence[tuple[Path, Verdict]]
ANOTHER_LOOK = "All else here is one look at all runs that lie here, under another correction, and no second verdict."
MAX_IN_LINE = 2  # tasks that the line of a question names


def name_folders(answers: Answers, roots: Iterable[Path]) -> list[tuple[Path, Verdict]]:
    """What was said, with folders as they are called below the one that was asked for, or that holds all that were."""
    home = Path(os.path.commonpath([os.path.realpath(root) for root in roots]))
    names = [os.path.relpath(folder, home) for folder, _ in answers]
    return [
        (Path(home.name if name == "." else name), verdict) for name, (_, verdict) in zip(names, answers, strict=True)
    ]


def only_tasks(answers: Answers, tasks: set[str]) -> list[tuple[Path, Verdict]]:
    """What was said on these tasks."""
    parts = [
        (folder, verdict.model_copy(update={"tasks": [task for task in verdict.tasks if task.task in tasks]}))
        for folder, verdict in answers
    ]
    return [(folder, part) for folder, part in parts if part.tasks]


def judge_sentences(answers: Answers) -> list[str]:
    """A line for each question. Figures stand in the table, but for those of one question about one task."""
    several = len({folder for folder, _ in answers}) > 1
    is_one = sum(len(verdict.tasks) for _, verdict in answers) == 1
    said = [
        f"The judge{f' in {clean_text(str(folder))}' if several else ''} on {clean_text(verdict.candidate)} against "
        f"{clean_text(verdict.baseline)}: {_words(verdict, is_one)}."
        for folder, verdict in answers[:MAX_NAMED]
    ]
    more = len(answers) - MAX_NAMED
    return [*said, *([f"Its words on {count_of(more, 'more question')} are in the table."] if more > 0 else [])]


def judge_tables(answers: Answers) -> list[Table]:
    """Every word with its ratio and interval; none without verdicts."""
    rows = [
        (*map(clean_text, (task.task, verdict.candidate, verdict.baseline)), task.verdict, *_figures(task),
         task.looks[-1].searches, _failures(task), clean_text(str(folder)))
        for folder, verdict in answers
        for task in verdict.tasks
    ]  # fmt: skip
    names = ["task", "candidate", "against", "verdict", "loss ×", "interval", "searches", "failed searches", "folder"]
    frame = pd.DataFrame(rows, columns=names)
    shown = {name: name for name in names if name != "folder" or frame["folder"].nunique() > 1}
    note = (
        "Ratio of final test losses at the judge's last look, below 1 is better for the candidate. The interval has "
        "the level that this look may spend, so it is wider than one of 95 %. Searches: of each side; failed: of the "
        "candidate and of the baseline."
    )
    return [make_table(frame, shown, title="The judge's words", note=note)] if rows else []


def _words(verdict: Verdict, is_one: bool) -> str:
    """The decided tasks first; their number where there are too many to be named."""
    said = {
        word: [task.task for task in verdict.tasks if word in (task.verdict, task.failure_verdict)]
        for word in (*VERDICT_ORDER, FAILS_MORE, FAILS_LESS)
    }
    parts = [f"{word} on {_name_tasks(tasks)}" for word, tasks in said.items() if tasks]
    if is_one:
        parts[0] += _describe(verdict.tasks[0])
    return "; ".join(parts)


def _name_tasks(tasks: Sequence[str]) -> str:
    return ", ".join(map(clean_text, tasks)) if len(tasks) <= MAX_IN_LINE else count_of(len(tasks), "task")


def _describe(task: TaskVerdict) -> str:
    effect, interval = _figures(task)
    each = f"{count_of(task.looks[-1].searches, SEARCH)} of each"
    if effect == MISSING:
        return f" ({each}, no loss of both)"
    span = "no interval" if interval == MISSING else f"interval {interval}"
    return f" (loss × {effect}, {span}, {each})"


def _figures(task: TaskVerdict) -> tuple[str, str]:
    """The ratio and its interval."""
    last = task.looks[-1]
    effect, low, high = (MISSING if x is None else ratio_text(x) for x in (last.difference, last.low, last.high))
    return effect, MISSING if MISSING in (low, high) else f"{low} to {high}"


def _failures(task: TaskVerdict) -> str:
    last = task.looks[-1]
    counts = f"{last.failed} and {last.baseline_failed}"
    return f"{counts}: {task.failure_verdict}" if task.failure_verdict else counts
