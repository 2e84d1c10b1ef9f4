"""Runs on disk: complete or not there, found again, never lost."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.errors import StoreError
from bench.jobs.job import run_job
from bench.jobs.plan import Plan
from bench.runs.store import Store
from tests.processes import Command

Mapping = Callable[..., dict[str, Any]]
MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]


def run_folders(mapping: dict[str, Any]) -> list[Path]:
    return sorted(path.parent for path in Path(mapping["results_dir"]).rglob("run.json"))


def test_a_run_folder_holds_what_others_rely_on(mapping: Mapping, small: Small) -> None:
    composed = mapping(*small("mlp"), "task.steps=20", "task.eval_every=10")
    objective = run_job(composed)
    (folder,) = run_folders(composed)
    run = json.loads((folder / "run.json").read_text())
    keys = {"schema_version", "run_id", "status", "seed", "config", "summary", "environment", "fingerprint", "pack"}
    assert keys <= set(run)
    assert folder.name == run["run_id"]
    assert run["summary"]["final_val_loss"] == objective
    metrics = pd.read_parquet(folder / "metrics.parquet")
    columns = "step train_loss val_loss lr train_seconds elapsed_seconds data_seconds forward_seconds backward_seconds"
    assert set(columns.split()) | {"optimizer_seconds", "val_accuracy"} <= set(metrics)
    assert metrics["step"].tolist() == [0, 10, 20]


def test_a_finished_trial_is_found_and_not_trained_again(
    mapping: Mapping, small: Small, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    composed = mapping(*small("mlp"), "task.steps=5")
    run_job(composed)
    (folder,) = run_folders(composed)
    written = (folder / "run.json").stat().st_mtime_ns
    assert "stored before" not in capsys.readouterr().out
    run_job(composed)
    assert "stored before: nothing was trained" in " ".join(capsys.readouterr().out.split())
    assert (folder / "run.json").stat().st_mtime_ns == written
    run_job(mapping(*small("mlp"), "task.steps=5", "tracker=csv"))
    assert "no tracker is told of them again (force=true trains and tells)" in caplog.text
    run_job({**composed, "force": True})
    assert (folder / "run.json").stat().st_mtime_ns > written


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "status"])
def test_a_damaged_run_is_trained_again_and_set_aside_by_name(
    mapping: Mapping, small: Small, plan: MakePlan, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    overrides = [*small("mlp"), "task.steps=5"]
    run_job(mapping(*overrides))
    made = plan(*overrides)
    (identity,) = made.finished
    folder = made.trials[0].folder(made.session.results_dir)
    metrics = (folder / "metrics.parquet").read_bytes()
    if damage == "truncate":
        (folder / "run.json").write_bytes((folder / "run.json").read_bytes()[:100])
    elif damage == "flip":
        (folder / "metrics.parquet").write_bytes(metrics[:50] + bytes([metrics[50] ^ 1]) + metrics[51:])
    elif damage == "remove":
        (folder / "metrics.parquet").unlink()
    else:
        text = (folder / "run.json").read_text()
        (folder / "run.json").write_text(text.replace('"completed"', '"interrupted"'))
    assert not plan(*overrides).finished
    run_job(mapping(*overrides))
    assert set(plan(*overrides).finished) == {identity}
    aside = list(folder.parent.glob(".*.damaged"))
    assert len(aside) == (damage != "status"), "a run that only was interrupted is replaced"
    assert all(f"{folder} was damaged: set aside as {path}" in caplog.text for path in aside)


def test_what_dead_processes_left_behind_is_removed(plan: MakePlan, small: Small) -> None:
    made = plan(*small("mlp"))
    store, trial = Store(made.session.results_dir), made.trials[0]
    with store.draft(trial) as draft:
        name, parent = draft.name, draft.parent
    dead = parent / name.replace(f".{os.getpid()}.", ".999999999.")
    alive = parent / name.replace(f".{os.getpid()}.", f".{os.getppid()}.")
    dead.mkdir()
    alive.mkdir()
    with store.draft(trial):
        assert not dead.exists()
        assert alive.exists()


def test_a_results_dir_that_cannot_be_written_is_told_before_training(mapping: Mapping, small: Small) -> None:
    with pytest.raises(StoreError, match="results_dir=/proc/nowhere: cannot be written"):
        run_job({**mapping(*small("mlp")), "results_dir": "/proc/nowhere"})


@pytest.mark.slow
def test_two_processes_give_byte_identical_losses(small: Small, start: Callable[..., Command], tmp_path: Path) -> None:
    losses = []
    for name in ("a", "b"):
        results = tmp_path / name
        overrides = [*small("gpt_nano"), "optimizer=adamuon", "task.steps=20", "tracker=none", f"results_dir={results}"]
        assert start("bench", *overrides).finish().returncode == 0
        (metrics,) = results.rglob("metrics.parquet")
        frame = pd.read_parquet(metrics)
        losses.append(frame[["train_loss", "val_loss", "full_val_loss"]].to_numpy().tobytes())
    assert losses[0] == losses[1]


def test_the_identity_changes_with_what_is_computed_and_with_nothing_else(plan: MakePlan, small: Small) -> None:
    def identity(*overrides: str) -> str:
        return plan(*small("mlp"), *overrides).trials[0].run_id

    same = {identity(), identity("force=true"), identity("pack_size=3"), identity("optimizer.paper=other")}
    assert len(same) == 1
    others = [
        "seed=1",
        "optimizer.lr=0.5",
        "task.steps=7",
        "schedule.final_factor=0.5",
        "precision=float64",
        "task.split_seed=1",
    ]
    assert len(same | {identity(other) for other in others}) == 1 + len(others)
