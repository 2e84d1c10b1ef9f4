"""A trial that stops at its target is the full one up to there, is recorded as such, and is compared with none."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.comparability import prepare
from bench.analysis.findings import analyse
from bench.analysis.load import load
from bench.errors import ConfigError
from bench.jobs.job import run_job
from bench.jobs.plan import Plan, make_plan
from bench.judge.question import compose_arm, parse_question
from bench.runs.summary import time_to_target
from bench.training.components import TaskShelf
from bench.verify.folder import check_folder
from bench.verify.replay import replay
from tests.harness.test_ensemble import train_together

MakePlan = Callable[..., Plan]
Mapping = Callable[..., dict[str, Any]]
Small = Callable[[str], list[str]]
TARGET = ["task.eval_every=10", "task.target.metric=val_loss", "task.target.mode=min", "task.target.value=2.0"]
LRS = ["sweep=lr", "sweep.axes.optimizer.lr=[0.0001,0.01,0.03]"]  # the first never gets there
STOP = "stop_at_target=true"


@pytest.mark.parametrize("together", [False, True])
def test_it_is_the_full_training_up_to_the_first_evaluation_that_meets_the_target(
    plan: MakePlan, small: Small, together: bool
) -> None:
    def train_all(*options: str) -> list[Any]:
        made = plan(*small("mlp"), *TARGET, *LRS, *options)
        packs = [made.trials] if together else [[trial] for trial in made.trials]
        return [record for pack in packs for record in train_together(made, pack)]

    full, stopped = train_all(), train_all(STOP)
    assert [record.status for record in stopped] == ["completed", "reached", "reached"]
    steps = [time_to_target(record)[0] for record in full]
    assert [time_to_target(record)[0] for record in stopped] == steps
    assert math.isinf(steps[0])
    assert 0 < steps[2] < steps[1] < 100
    for one, other, step in zip(stopped, full, steps, strict=True):
        assert one.rows[-1]["step"] == min(step, 100)
        kept = [name for name in one.rows[0] if not name.endswith("_seconds")]
        for mine, theirs in zip(one.rows, other.rows, strict=False):
            assert [repr(mine[name]) for name in kept] == [repr(theirs[name]) for name in kept]
        assert math.isfinite(one.rows[-1]["full_test_loss"])


def test_it_is_stored_checked_replayed_and_found_again_and_never_mixed_with_a_full_run(
    mapping: Mapping, small: Small
) -> None:
    options = [*small("mlp"), *TARGET, "optimizer.lr=0.01"]
    run_job(mapping(*options))
    steps = run_job(mapping(*options, STOP))
    results = Path(mapping()["results_dir"])
    stored = {json.loads(file.read_text())["status"]: file.parent for file in results.rglob("run.json")}
    assert set(stored) == {"completed", "reached"}
    summaries = [json.loads((folder / "run.json").read_text())["summary"] for folder in stored.values()]
    assert {summary["steps_to_target"] for summary in summaries} == {steps}
    assert [check_folder(folder).faults for folder in stored.values()] == [[], []]
    assert not replay(stored["reached"], TaskShelf()).differences
    assert not make_plan(mapping(*options, STOP)).missing
    runs, used, notes = prepare(load([results]).runs)
    assert runs["setting"].nunique() == 2
    assert list(used["status"]) == ["completed"]
    assert any("1 run with stop_at_target=true, without a final loss" in note for note in notes)


def test_runs_that_stop_are_compared_with_nothing_even_where_they_never_got_there(
    mapping: Mapping, small: Small
) -> None:
    run_job(mapping(*small("mlp"), *TARGET, *LRS, STOP))
    loaded = load([Path(mapping()["results_dir"])])
    assert set(loaded.runs["status"]) == {"completed", "reached"}
    assert analyse(loaded) is None


def test_a_folder_that_claims_to_have_reached_a_target_which_no_row_meets_is_faulty(
    mapping: Mapping, small: Small
) -> None:
    run_job(mapping(*small("mlp"), *TARGET, "optimizer.lr=0.0001", STOP))
    (file,) = Path(mapping()["results_dir"]).rglob("run.json")
    file.write_text(file.read_text().replace('"completed"', '"reached"'))
    assert any("status=reached: the rows never meet the target" in fault for fault in check_folder(file.parent).faults)


def test_its_sweep_goes_by_the_steps_to_the_target(
    mapping: Mapping, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    best = run_job(mapping(*small("mlp"), *TARGET, *LRS, STOP))
    lines = capsys.readouterr().out.splitlines()
    assert any("by steps to target, mean over seeds" in line for line in lines)
    rows = [line.split() for line in lines if line.strip().startswith(("0.", "1e-04"))]
    assert [float(row[0]) for row in rows] == [0.03, 0.01, 0.0001]
    assert float(rows[0][1]) == best
    assert [row[-1] for row in rows] == ["1/1"] * 3


def test_another_objective_and_the_judge_refuse_it_in_one_line(plan: MakePlan, small: Small) -> None:
    for options in ([STOP, "sweep.objective=best"], ["sweep.objective=steps_to_target"]):
        with pytest.raises(ConfigError, match="expected steps_to_target with stop_at_target=true, and only there"):
            plan(*small("mlp"), *options)
    question = parse_question(["optimizer=lion", "task=mlp", STOP])
    with pytest.raises(ConfigError, match=r"^stop_at_target=True: final losses are judged"):
        compose_arm(question, question.candidate, "mlp")
