"""The judge: trains both arms search by search, and looks at planned moments until every task has its word."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from bench.analysis.judged import LookAt, TaskVerdict, Verdict
from bench.analysis.scores import deviations
from bench.analysis.sequential import LOOKS, UNRESOLVED, Look, candidate_level, decide, look_level, searches_needed
from bench.errors import ConfigError
from bench.jobs.plan import Plan
from bench.judge.ledger import Ledger, key_of
from bench.judge.question import Question, compose_arm, describe_unequal_ranges
from bench.judge.searches import estimate_seconds, pair_searches, plan_searches, run_searches
from bench.runs.store import Store

NO_RUNS = pd.DataFrame({"replicate": [], "score": []})


@dataclass
class Progress:
    """What is known about one task so far.

    Attributes:
        margin: the task's least relevant difference of logarithms.
        arms: from `run_searches`, of the candidate and of the baseline.
        looks: one per planned look that was reached, or one at no search where there was no time for the first.
        seconds: what they have taken.
    """

    task: str
    margin: float
    arms: tuple[pd.DataFrame, pd.DataFrame] = (NO_RUNS, NO_RUNS)
    looks: list[Look] = field(default_factory=list)
    seconds: float = 0.0
    is_out_of_time: bool = False

    @property
    def is_open(self) -> bool:
        is_done = len(self.looks) == len(LOOKS) or (self.looks and self.looks[-1].is_final)
        return not self.is_out_of_time and not is_done


class Judge:
    """One question from its plan to its verdict.

    Args:
        question: what is to be judged.

    Raises:
        ConfigError: something in the question does not exist, or is not allowed; nothing was trained or written.
        StoreError: from every method, if the results folder cannot be written.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        arms = question.candidate, question.baseline
        self.mappings = {task: [compose_arm(question, arm, task) for arm in arms] for task in question.tasks}
        self.plans = {task: self._plan(task, LOOKS[0]) for task in question.tasks}
        self.tasks = [Progress(task, plans[0].trials[0].config.task.relevant) for task, plans in self.plans.items()]
        Store(question.results_dir).check_writable()
        self.key = key_of([trial for plans in self.plans.values() for plan in plans for trial in plan.trials])
        self.ledger = Ledger(question.results_dir)
        self._seconds: dict[tuple[str, int], float] = {}

    @cached_property
    def number(self) -> int:
        """The candidate's number in this folder, which is written down at the first look at it."""
        question = self.question
        if question.is_self:
            return 1
        return self.ledger.number(self.key, question.candidate.label, question.baseline.label, question.tasks)

    @property
    def level(self) -> float:
        """What all that is said of this candidate may err."""
        return candidate_level(self.number)

    @property
    def name(self) -> str:
        """What the files of this question are called."""
        return f"{self.question.candidate.optimizer.replace('/', '_')}-{self.key[:8]}"

    def _plan(self, task: str, num_searches: int) -> tuple[Plan, Plan]:
        candidate, baseline = (plan_searches(mapping, num_searches) for mapping in self.mappings[task])
        shown = [([trial.run_id for trial in plan.trials], plan.sweep.objective) for plan in (candidate, baseline)]
        if shown[0] == shown[1]:
            text = "is the baseline itself, trial by trial; --self compares it with itself, tuned anew"
            raise ConfigError("optimizer", self.question.candidate.label, text)
        return candidate, baseline

    def look(self) -> Iterator[Progress]:
        """Train up to one planned look after the other while there is time, always the one that takes least.

        So the time decides some tasks rather than beginning all: few searches of each leave everything unresolved.
        """
        self.started = time.monotonic()
        while waiting := [progress for progress in self.tasks if progress.is_open]:
            progress = min(waiting, key=self._seconds_to_next)
            if not self._has_time(progress):
                return self._end(waiting)
            begun = time.monotonic()
            num_searches = LOOKS[len(progress.looks)]
            plans = self._plan(progress.task, num_searches)
            progress.arms = (run_searches(plans[0]), run_searches(plans[1]))
            pairs = pair_searches(*progress.arms, num_searches)
            progress.looks.append(decide(pairs, progress.margin, self.level_at(num_searches)))
            progress.seconds += time.monotonic() - begun
            yield progress

    def _end(self, waiting: Sequence[Progress]) -> None:
        """The time is up for these."""
        for progress in waiting:
            progress.is_out_of_time = True
            progress.looks = progress.looks or [decide([], progress.margin, self.level_at(LOOKS[0]))]

    def level_at(self, num_searches: int) -> float:
        """What a look at one task may err."""
        return look_level(num_searches, self.level / len(self.tasks))

    def seconds_to_look(self, task: str, number: int) -> float:
        """What the trials between a look, counted from 0, and the one before it take, by what was measured."""
        before = self._seconds_of(task, LOOKS[number - 1]) if number else 0.0
        return self._seconds_of(task, LOOKS[number]) - before

    def _seconds_of(self, task: str, num_searches: int) -> float:
        key = (task, num_searches)
        if key not in self._seconds:
            self._seconds[key] = sum(map(estimate_seconds, self._plan(task, num_searches)))
        return self._seconds[key]

    def _seconds_to_next(self, progress: Progress) -> float:
        """What the next look takes, and no less than the searches so far have taken, one for one."""
        planned = self.seconds_to_look(progress.task, len(progress.looks))
        if not progress.looks:
            return planned
        done = progress.looks[-1].num_searches
        return max(planned, progress.seconds / done * (LOOKS[len(progress.looks)] - done))

    def _has_time(self, progress: Progress) -> bool:
        if not any(each.looks for each in self.tasks):
            return True
        return self._seconds_to_next(progress) <= self.question.training_seconds - (time.monotonic() - self.started)

    @property
    def baseline_name(self) -> str:
        """The baseline's name in the report."""
        return self.plans[self.question.tasks[0]][1].trials[0].config.optimizer.name

    def conclude(self) -> Verdict:
        """The verdict on every task, as far as it was looked at."""
        question = self.question
        search = self.plans[question.tasks[0]][0].sweep
        assert search.search is not None
        verdict = Verdict(
            candidate=question.candidate.label,
            baseline=question.baseline.label,
            candidate_number=self.number,
            alpha=self.level,
            trials_per_search=search.search.num_trials,
            fresh_seeds=list(search.fresh_seeds),
            planned_looks=list(LOOKS),
            notes=list(describe_unequal_ranges(*self.mappings[question.tasks[0]])),
            tasks=[self._describe(progress) for progress in self.tasks],
        )
        if not question.is_self:
            self.ledger.conclude(self.key, {task.task: task.verdict for task in verdict.tasks})
        return verdict

    def _describe(self, progress: Progress) -> TaskVerdict:
        last = progress.looks[-1]
        needed = (
            searches_needed(last, progress.margin, self.level_at(LOOKS[-1])) if last.verdict == UNRESOLVED else math.nan
        )
        (between, within), (other_between, other_within) = (deviations(runs) for runs in progress.arms)
        return TaskVerdict(
            task=progress.task,
            verdict=last.verdict,
            failure_verdict=last.failure_verdict,
            ratio=_ratio(last.difference),
            ratio_low=_ratio(last.low),
            ratio_high=_ratio(last.high),
            margin=progress.margin,
            sd_searches=_finite(between),
            sd_seeds=_finite(within),
            baseline_sd_searches=_finite(other_between),
            baseline_sd_seeds=_finite(other_within),
            searches_needed=_finite(needed),
            looks=[
                LookAt(
                    searches=look.num_searches,
                    level=self.level_at(look.num_searches),
                    difference=_finite(look.difference),
                    low=_finite(look.low),
                    high=_finite(look.high),
                    verdict=look.verdict,
                    failed=look.num_failed,
                    baseline_failed=look.num_baseline_failed,
                    failure_p_value=look.failure_p_value,
                    failure_verdict=look.failure_verdict,
                )
                for look in progress.looks
            ],
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ratio(difference: float) -> float | None:
    return math.exp(difference) if -700 < difference < 700 else None
