"""The table of all optimizers at their defaults: which they are, and a trained row."""

from collections.abc import Callable
from types import ModuleType

import pytest

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
