"""The scripts behind the reference tables: what they measure, and that a stopped or partial one keeps what it has."""

import csv
import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SPIKE = 20
Script = Callable[[str], ModuleType]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def test_recovery_is_counted_from_the_spike_and_never_means_infinite(script: Script) -> None:
    measure = script("spike_recovery").measure
    twin = (np.ones(120), np.ones(120))
    loss, length = np.ones(120), np.ones(120)
    loss[SPIKE : SPIKE + 30] = 5.0
    length[SPIKE : SPIKE + 40] = 0.1
    found = measure((loss, length), twin, SPIKE)
    # Means over ten steps: the loss is at 1 from the window after the last high step on.
    assert found["level"] == found["twin"] == 30 + 1
    # Half of the twin's length: a window with five short steps has 0.55, one with six 0.46.
    assert found["memory"] == 40 - 5
    assert found["final_ratio"] == 1.0
    loss[SPIKE:], length[SPIKE:] = 5.0, 0.1
    found = measure((loss, length), twin, SPIKE)
    assert [found[name] for name in ("level", "twin", "memory")] == [math.inf] * 3
    assert found["final_ratio"] == 5.0


def test_a_training_that_breaks_down_never_recovers(script: Script) -> None:
    loss = np.ones(120)
    loss[SPIKE:] = np.nan
    found = script("spike_recovery").measure((loss, loss), (np.ones(120), np.ones(120)), SPIKE)
    assert [found[name] for name in ("level", "twin", "memory", "final_ratio")] == [math.inf] * 4


def test_a_part_of_the_optimizer_table_keeps_all_other_rows(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("optimizer_table")
    compose_plan = module.compose_plan
    tiny = ("task.steps=2", "task.eval_every=1")
    monkeypatch.setattr(module, "TASKS", ("mlp", "bigram"))
    monkeypatch.setattr(module, "compose_plan", lambda *given: compose_plan(*given, *tiny))
    monkeypatch.setattr(module, "bigram_loss", lambda task: 2.0)
    monkeypatch.setattr(module, "GPTTask", importlib.import_module("tasks.bigram").BigramTask)
    for name, rounds in (("lion", "1"), ("soap", "0")):
        monkeypatch.setattr(
            sys, "argv", ["optimizer_table.py", "--only", name, "--rounds", rounds, "--out", str(tmp_path)]
        )
        with pytest.raises(SystemExit, match=f"not solved at its defaults: {name} on mlp"):
            module.main()
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        rows = {(row["optimizer"], row["task"]): row for row in csv.DictReader(file)}
    assert list(rows) == [(name, task) for name in ("lion", "soap") for task in ("mlp", "bigram")]
    assert {name: bool(row["ms_per_step"]) for (name, _), row in rows.items()} == {"lion": True, "soap": False}
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| lion", "| soap"]


def test_arms_of_the_averaging_study_share_every_training_that_is_the_same(script: Script, tmp_path: Path) -> None:
    module = script("averaging_study")
    judges = list(module.ask(["task=rosenbrock", f"results_dir={tmp_path}"]))
    arms = {judge.question.candidate.label: judge.plans["rosenbrock"][0] for judge in judges}
    baselines = [judge.plans["rosenbrock"][1] for judge in judges]
    trials = {name: {trial.run_id for trial in plan.trials} for name, plan in {**arms, "AdamW": baselines[0]}.items()}
    assert all({trial.run_id for trial in plan.trials} == trials["AdamW"] for plan in baselines)
    assert trials["AdamW+EMA"] == trials["AdamW"]
    assert trials["Muon+EMA"] == trials["Muon"]
    assert not trials["Muon"] & trials["AdamW"]
    assert not trials["schedule-free"] & trials["AdamW"]


def test_the_share_of_a_lead_is_one_of_logarithms_and_only_of_leads_that_are_shown(script: Script) -> None:
    module = script("averaging_study")
    rows = [
        {"task": "mlp", "arm": "AdamW+EMA", "ratio": 0.9, "verdict": "unresolved"},
        {"task": "mlp", "arm": "Muon", "ratio": 0.81, "verdict": "better"},
        {"task": "vit", "arm": "AdamW+EMA", "ratio": 0.5, "verdict": "better"},
        {"task": "vit", "arm": "Muon", "ratio": 0.5, "verdict": "unresolved"},
    ]
    assert list(module.share_of_lead(rows, "Muon")) == ["mlp 50%"]
    assert [module.format_ratio(ratio) for ratio in (math.nan, 1e-9, 0.12345, 2e7)] == ["-", "< 1e-6", "0.123", "> 1e6"]
