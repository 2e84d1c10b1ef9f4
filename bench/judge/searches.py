"""The searches of an arm, trained or found again, and what they say when two arms are laid side by side."""

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import pandas as pd

from bench.analysis.scores import log_loss
from bench.analysis.sequential import SearchPair
from bench.jobs.job import train_plan
from bench.jobs.plan import Plan, make_plan
from bench.runs.objective import final_loss
from bench.runs.schema import Run


def plan_searches(mapping: Mapping[str, Any], num_searches: int) -> Plan:
    """The plan of so many searches of an arm, from the configuration of one. Raises ConfigError."""
    sweep = mapping["sweep"]
    return make_plan({**mapping, "sweep": {**sweep, "search": {**sweep["search"], "replicates": num_searches}}})


def run_searches(plan: Plan) -> pd.DataFrame:
    """The runs on fresh seeds, trained where they are not stored yet.

    Returns:
        replicate (the search), seed, score (the logarithm of the final test loss of the weights that `sweep.objective`
        names; NaN for a run that failed).
    """
    rows = [
        (run.replicate, run.seed, log_test_loss(run, plan.sweep.objective))
        for run in train_plan(plan, tell=False)
        if run.stage == "fresh"
    ]
    return pd.DataFrame(rows, columns=["replicate", "seed", "score"]).astype({"score": float})


def estimate_seconds(plan: Plan) -> float:
    """What the missing trials of all stages will take, by what was measured."""
    return sum(stage.packing.seconds for stage in plan.stages())


def pair_searches(candidate: pd.DataFrame, baseline: pd.DataFrame, num_searches: int) -> list[SearchPair]:
    """Search by search, and within a search seed by seed, the difference of scores from `run_searches`."""
    return [
        _pair(*(runs[runs["replicate"] == number].set_index("seed")["score"] for runs in (candidate, baseline)))
        for number in range(num_searches)
    ]


def _pair(candidate: pd.Series, baseline: pd.Series) -> SearchPair:
    differences = (candidate - baseline).dropna()
    return SearchPair(None if differences.empty else fmean(differences), _failed(candidate), _failed(baseline))


def _failed(scores: pd.Series) -> bool:
    """Whether a run failed, or no cell could be chosen at all."""
    return scores.empty or bool(scores.isna().any())


def log_test_loss(run: Run, objective: str) -> float:
    """The logarithm of a run's final test loss, of the weights that `objective` names; NaN for a run that failed."""
    loss = final_loss(run, objective, "test")
    return float(log_loss(loss)) if math.isfinite(loss) else math.nan
