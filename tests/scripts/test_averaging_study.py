"""The arms of the study of averaging, and what its table says of them."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TINY = ["task=quadratic", "task.steps=2", "task.eval_every=2", "task.rows=4", "task.columns=4"]
ROW = {"searches": 3, "low": 0.5, "high": 2.0, "margin": 1.05, "failed": 0, "adamw_failed": 1}


def test_every_arm_is_another_candidate_against_one_and_the_same_baseline(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    judges = list(script("averaging_study").ask([*TINY, f"results_dir={tmp_path}"]))
    assert [judge.number for judge in judges] == [1, 2, 3, 4]
    plans = [judge.plans["quadratic"] for judge in judges]
    assert len({tuple(trial.run_id for trial in baseline.trials) for _, baseline in plans}) == 1
    assert [candidate.sweep.objective for candidate, _ in plans] == ["best", "val_loss", "best", "val_loss"]
    arms = [tuple(trial.run_id for trial in candidate.trials) for candidate, _ in plans]
    assert arms[1] == arms[2]  # one training serves Muon with and without averages
    assert arms[0] == tuple(trial.run_id for trial in plans[0][1].trials)


def test_the_share_of_a_lead_is_one_of_logarithms_and_only_of_leads(script: Callable[[str], ModuleType]) -> None:
    study = script("averaging_study")
    rows = [
        {**ROW, "task": task, "arm": arm, "ratio": ratio, "verdict": verdict}
        for task, arm, ratio, verdict in [
            ("mlp", "Muon", 0.64, "better"),
            ("mlp", "AdamW+EMA", 0.8, "better"),
            ("vit", "Muon", 0.9, "unresolved"),
            ("vit", "AdamW+EMA", 0.7, "better"),
        ]
    ]
    assert list(study.share_of_lead(rows, "Muon")) == ["mlp 50%"]
    lines = study.make_lines(rows)
    assert "| Muon | 2 | 1 | 0 | 0 | 1 |" in lines  # better, practically the same, worse, unresolved
    assert "| mlp | Muon | 3 | 0.64 | 0.5 | 2 | 1.05 | better | 0 | 1 |" in lines
    assert "Share of schedule-free's lead that AdamW+EMA has: schedule-free is shown to be better on no task." in lines


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.12345, "0.123"), (float("nan"), "-"), (1e-9, "< 1e-6"), (float("inf"), "> 1e6")]
)
def test_ratios_beyond_a_million_are_told_only_as_that(
    ratio: float, text: str, script: Callable[[str], ModuleType]
) -> None:
    assert script("averaging_study").format_ratio(ratio) == text


def test_a_bound_beyond_all_numbers_is_infinite(script: Callable[[str], ModuleType]) -> None:
    assert script("averaging_study").as_ratio(float("inf")) == script("averaging_study").as_ratio(1e4) == float("inf")
    assert script("averaging_study").as_ratio(-1e4) == 0.0
    assert script("averaging_study").as_ratio(0.5) == pytest.approx(1.6487, rel=1e-4)
