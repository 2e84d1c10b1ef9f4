"""What the judge says on the terminal: what it is going to do, where it stands, and its words."""

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bench.analysis.intervals import ALPHA
from bench.analysis.judged import TaskVerdict, Verdict
from bench.analysis.scores import BELOW_NOISE, is_below_noise
from bench.analysis.sequential import LOOKS, MAX_SEARCHES
from bench.errors import count_of
from bench.jobs.tables import print_line, print_table
from bench.judge.judge import Judge, Progress


def print_question(judge: Judge, console: Console) -> None:
    """What is asked, what it may cost, and what the time buys."""
    question = judge.question
    print_line(
        f"Is {question.candidate.label} better than {question.baseline.label} on {', '.join(question.tasks)}?", console
    )
    sweep = judge.plans[question.tasks[0]][0].sweep
    assert sweep.search is not None
    trials, seeds = count_of(sweep.search.num_trials, "trial"), count_of(len(sweep.fresh_seeds), "fresh seed")
    print_line(
        f"Each is tuned by searches of {trials}; the best of each search is shown on {seeds}. "
        f"Looks after {', '.join(map(str, LOOKS))} searches of each.",
        console,
    )
    print_line(_describe_tuned(judge), console)
    if not question.is_self:
        print_line(
            f"Candidate {judge.number} against {question.baseline.label} in {question.results_dir}: it may be called "
            f"different by mistake in {100 * judge.level:.2g} % of cases, all of them together in {100 * ALPHA:g} %.",
            console,
        )
    print_line(_describe_time(judge), console)


def _describe_tuned(judge: Judge) -> str:
    """The keys that are searched on either side."""
    arms = judge.question.candidate, judge.question.baseline
    plans = judge.plans[judge.question.tasks[0]]
    tuned = [
        f"{arm.label} over {', '.join(plan.mapping['optimizer']['search_space'])}"
        for arm, plan in zip(arms, plans, strict=True)
    ]
    return f"Searched: {'; '.join(tuned)}. Others are searched where search_space in the optimizer's yaml names them."


def _describe_time(judge: Judge) -> str:
    """What all looks would take, and how far the given minutes reach."""
    minutes, tasks = judge.question.minutes, judge.question.tasks
    seconds = sum(judge.seconds_to_look(task, number) for task in tasks for number in range(len(LOOKS)))
    text = f"All {LOOKS[-1]} searches of each would take about {_duration(seconds)} of training."
    if minutes is None or seconds <= judge.question.training_seconds:
        return text
    looks = _affordable_looks(judge, judge.question.training_seconds)
    buys = [
        f"{(0, *LOOKS)[number]} on {', '.join(task for task in tasks if looks[task] == number)}"
        for number in sorted(set(looks.values()), reverse=True)
    ]
    afforded = f"{count_of(minutes, 'minute')} will buy {'; '.join(buys)}"
    return f"{text} {afforded}; more where a task is decided earlier. minutes=null: all."


def _affordable_looks(judge: Judge, seconds: float) -> dict[str, int]:
    """The looks at each task for which the time suffices, if none of them decides it."""
    looks = dict.fromkeys(judge.question.tasks, 0)
    while waiting := [task for task in looks if looks[task] < len(LOOKS)]:
        task = min(waiting, key=lambda name: judge.seconds_to_look(name, looks[name]))
        seconds -= judge.seconds_to_look(task, looks[task])
        if seconds < 0:
            break
        looks[task] += 1
    return looks


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def print_look(progress: Progress, console: Console) -> None:
    """The interval of a task right now."""
    look = progress.looks[-1]
    interval = _describe_interval(look.difference, look.low, look.high)
    words = ", ".join(word for word in (look.verdict, look.failure_verdict) if word)
    print_line(f"{progress.task}, {look.num_searches} searches of each: {interval}; {words}", console)


def _describe_interval(difference: float, low: float, high: float) -> str:
    if math.isnan(difference):
        return "no search of both arms has a loss"
    if not math.isfinite(low + high):
        return f"loss ratio {math.exp(difference):.3g}, too few searches for an interval"
    return f"loss ratio {math.exp(difference):.3g}, {math.exp(low):.3g} to {math.exp(high):.3g}"


def print_verdict(verdict: Verdict, judge: Judge, console: Console) -> None:
    """Two rows per task, its word and what stands behind it, and what it would take where a task is unresolved."""
    print_line(f"\n{verdict.candidate} against {verdict.baseline}", console, style="bold")
    print_table([_describe_word(task) for task in verdict.tasks], console)
    print_line("ratio: of the geometric means of final test losses; below 1 is better for the candidate.\n", console)
    print_table([_describe_grounds(task) for task in verdict.tasks], console)
    print_line("margin: ratios too near to 1 to matter; failed: searches of the candidate and of the", console)
    print_line("baseline; sd: of the logarithms of the candidate's losses.", console)
    if any(map(_is_below_noise, verdict.tasks)):
        print_line(f"{BELOW_NOISE}: too little to be told from what seeds explain, not shown to be 0.", console)
    for note in [*verdict.notes, *_outlook(verdict.tasks, judge)]:
        print_line(note, console, style="yellow")


def print_words(verdicts: Sequence[Verdict], console: Console) -> None:
    """A line for each of several candidates."""
    for verdict in verdicts:
        words = ", ".join(f"{task.verdict} on {task.task}" for task in verdict.tasks)
        print_line(f"{verdict.candidate} against {verdict.baseline}: {words}", console)


def _describe_word(task: TaskVerdict) -> dict[str, Any]:
    return {
        "task": task.task,
        "verdict": task.verdict,
        "ratio": task.ratio,
        "from": task.ratio_low,
        "to": task.ratio_high,
        "searches": task.looks[-1].searches,
    }


def _describe_grounds(task: TaskVerdict) -> dict[str, Any]:
    last = task.looks[-1]
    return {
        "task": task.task,
        "margin": f"{math.exp(-task.margin):.3g} to {math.exp(task.margin):.3g}",
        "failures": task.failure_verdict.removeprefix("fails ").removesuffix(" often") or "alike",
        "failed": f"{last.failed}, {last.baseline_failed}",
        "sd between searches": BELOW_NOISE if _is_below_noise(task) else task.sd_searches,
        "sd between seeds": task.sd_seeds,
    }


def _is_below_noise(task: TaskVerdict) -> bool:
    return bool(is_below_noise(task.sd_searches, task.sd_seeds))


def _outlook(tasks: Sequence[TaskVerdict], judge: Judge) -> list[str]:
    lines = []
    for task, progress in zip(tasks, judge.tasks, strict=True):
        if task.verdict != "unresolved":
            continue
        if not task.looks[-1].searches:
            lines.append(
                f"{task.task}: there was no time for the first look; the same command with more minutes goes on."
            )
            continue
        why = "the time is up" if progress.is_out_of_time else f"{LOOKS[-1]} searches of each leave it open"
        size = f"a ratio of {math.exp(2 * task.margin):.3g}, twice the margin"
        if task.searches_needed is None:
            lines.append(f"{task.task}: {why}; {MAX_SEARCHES} searches are too few to find {size}.")
        elif task.searches_needed <= task.looks[-1].searches:
            lines.append(
                f"{task.task}: {why}, though {task.searches_needed:g} find {size}, in 80 % of cases: the difference is "
                "smaller than that, or this is one of the other cases."
            )
        else:
            lines.append(f"{task.task}: {why}; {task.searches_needed:g} searches find {size}, in 80 % of cases.")
    return lines
