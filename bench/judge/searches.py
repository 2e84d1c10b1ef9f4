"""The searches of an arm, trained or found again, and what they say when two arms are laid side by side."""

from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from bench.analysis.scores import log_loss
from bench.analysis.sequential import SearchPair
from bench.jobs.job import train_plan
from bench.jobs.plan import Plan, make_plan
from bench.judge.question import Arm, Question, compose_arm
from bench.runs.schema import Run


def plan_searches(question: Question, arm: Arm, task: str, num_searches: int) -> Plan:
    """The plan of an arm's searches. Raises ConfigError."""
    return make_plan(compose_arm(question, arm, task, num_searches))


def run_searches(plan: Plan) -> list[Run]:
    """The runs on fresh seeds, trained where they are not stored yet."""
    return [run for run in train_plan(plan, tell=False) if run.stage == "fresh"]


def estimate_seconds(plan: Plan) -> float:
    """What the missing trials of all stages will take, by what was measured."""
    return sum(stage.packing.seconds for stage in plan.stages())


def pair_searches(candidate: Sequence[Run], baseline: Sequence[Run], num_searches: int) -> list[SearchPair]:
    """Search by search, and within a search seed by seed, the difference of logarithms of the final test loss."""
    arms = [_by_search(runs) for runs in (candidate, baseline)]
    return [_pair(*(arm.get(number, {}) for arm in arms)) for number in range(num_searches)]


def _by_search(runs: Sequence[Run]) -> dict[int, dict[int, float | None]]:
    """The logarithm of each run's loss by search and seed."""
    found: dict[int, dict[int, float | None]] = {}
    for run in runs:
        found.setdefault(run.replicate, {})[run.seed] = log_loss_of(run)
    return found


def _pair(candidate: dict[int, float | None], baseline: dict[int, float | None]) -> SearchPair:
    common = [(candidate[seed], baseline[seed]) for seed in sorted(candidate.keys() & baseline.keys())]
    differences = [mine - other for mine, other in common if mine is not None and other is not None]
    return SearchPair(fmean(differences) if differences else None, _failed(candidate), _failed(baseline))


def _failed(losses: dict[int, float | None]) -> bool:
    """Whether a run failed, or no cell could be chosen at all."""
    return not losses or None in losses.values()


def log_loss_of(run: Run) -> float | None:
    """The logarithm of a run's final test loss, None for a run that failed."""
    loss = run.summary.figures.get("final_test_loss")
    return None if loss is None or run.status != "completed" else float(log_loss(loss))


def score_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """The runs as `bench.analysis.scores.deviations` takes them: replicate and score, NaN for a run that failed."""
    rows = [(run.replicate, log_loss_of(run)) for run in runs]
    return pd.DataFrame(rows, columns=["replicate", "score"], dtype=float)
