"""The table of all optimizers at their defaults: which they are, and a trained row."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tasks.bigram import BigramTask

Script = Callable[[str], ModuleType]
TINY = ["task.steps=2", "task.eval_every=1", "task.width=8", "task.batch_size=4"]


@pytest.fixture
def table(script: Script) -> ModuleType:
    return script("optimizer_table")


def test_the_baseline_is_first_and_every_other_one_of_ours_and_torchs_is_there(table: ModuleType) -> None:
    names = table.optimizer_names()
    assert names[0] == "adamw"
    assert {"adam", "muon", "sgd", "schedule_free_adamw"} < set(names)
    assert names[1:] == sorted(set(names) - {"adamw"})


def test_a_run_is_solved_by_its_accuracy_or_where_it_beats_the_bigram_model(table: ModuleType) -> None:
    run, bigram = table.train("sgd", "mlp", *TINY)
    assert bigram is None
    row = table.describe(run, None)
    assert (row["optimizer"], row["task"], row["status"], row["solved"]) == ("sgd", "mlp", "completed", False)
    assert row["val_loss"] == f"{run.summary.final_val_loss:.4f}"
    assert table.describe(run, run.summary.final_val_loss + 0.1)["solved"]
    assert not table.describe(run, run.summary.final_val_loss - 0.1)["solved"]


@pytest.mark.slow
def test_a_part_of_the_table_keeps_all_other_rows(
    table: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose_plan = table.compose_plan
    monkeypatch.setattr(table, "TASKS", ("mlp", "bigram"))
    monkeypatch.setattr(table, "compose_plan", lambda *given: compose_plan(*given, "task.steps=2", "task.eval_every=1"))
    monkeypatch.setattr(table, "bigram_loss", lambda task: 2.0)
    monkeypatch.setattr(table, "GPTTask", BigramTask)
    for name, rounds in (("lion", "1"), ("soap", "0")):
        arguments = ["--only", name, "--rounds", rounds, "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["optimizer_table.py", *arguments])
        with pytest.raises(SystemExit, match=f"not solved at its defaults: {name} on mlp"):
            table.main()
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        rows = {(row["optimizer"], row["task"]): row for row in csv.DictReader(file)}
    assert list(rows) == [(name, task) for name in ("lion", "soap") for task in ("mlp", "bigram")]
    assert {name: bool(row["ms_per_step"]) for (name, _), row in rows.items()} == {"lion": True, "soap": False}
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| lion", "| soap"]
