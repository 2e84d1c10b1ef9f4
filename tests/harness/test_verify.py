"""Stored runs, whole and damaged on purpose, and trained again."""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.cli.compose import compose, resolve
from bench.jobs.job import run_job
from bench.jobs.plan import Plan
from bench.runs.identity import run_id
from bench.runs.schema import STATUSES, Fingerprint
from bench.runs.store import Store
from bench.training.interrupt import StopSignal
from bench.training.record import Record
from bench.training.train import train
from bench.verify.__main__ import main
from bench.verify.folder import Checked
from bench.verify.replay import choose
from tests.harness.conftest import SMALL
from tests.processes import Command

Mapping = Callable[..., dict[str, Any]]
MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
Run = dict[str, Any]
SHORT = ["task.steps=20", "task.eval_every=10"]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one run, to be copied."""
    results = tmp_path_factory.mktemp("single") / "results"
    run_job(resolve(compose([*SMALL["mlp"], *SHORT, "tracker=none", "device=cpu", f"results_dir={results}"])))
    return results


@pytest.fixture
def trained(
    mapping: Mapping, small: Small, single: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[Path]]:
    """`trained("optimizer=adam", ...)` are the run folders of a short job on `mlp`."""

    def train_now(*overrides: str) -> list[Path]:
        results = tmp_path / "results"
        if overrides:
            run_job(mapping(*small("mlp"), *SHORT, *overrides))
        else:
            shutil.copytree(single, results)
        capsys.readouterr()  # the job's own table
        return sorted(file.parent for file in results.rglob("run.json"))

    return train_now


def edit(folder: Path, change: Callable[[Run], None]) -> None:
    run = json.loads((folder / "run.json").read_text())
    change(run)
    (folder / "run.json").write_text(json.dumps(run))


def edit_metrics(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change the rows, and the checksum with them."""
    file = folder / "metrics.parquet"
    change(pd.read_parquet(file)).to_parquet(file, index=False)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    edit(folder, lambda run: run["files"].update({"metrics.parquet": checksum}))


def rename_to_its_identity(folder: Path) -> Path:
    """Give a run that was changed the id that its config and fingerprint now have, in `run.json` and as its name."""
    run = json.loads((folder / "run.json").read_text())
    identity = run_id(run["config"], Fingerprint.model_validate(run["fingerprint"]))
    edit(folder, lambda run: run.update(run_id=identity))
    return folder.rename(folder.with_name(identity))


def set_value(frame: pd.DataFrame, column: str, row: int, value: float) -> pd.DataFrame:
    frame.loc[row, column] = value
    return frame


def flip_byte(folder: Path) -> None:
    content = bytearray((folder / "metrics.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "metrics.parquet").write_bytes(content)


def truncate_metrics(folder: Path) -> None:
    content = (folder / "metrics.parquet").read_bytes()[:200]
    (folder / "metrics.parquet").write_bytes(content)
    checksum = hashlib.sha256(content).hexdigest()
    edit(folder, lambda run: run["files"].update({"metrics.parquet": checksum}))


def truncate_run(folder: Path) -> None:
    (folder / "run.json").write_bytes((folder / "run.json").read_bytes()[:100])


def edited(change: Callable[[Run], Any]) -> Callable[[Path], None]:
    return lambda folder: edit(folder, change)


def edited_metrics(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    return lambda folder: edit_metrics(folder, change)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "flipped byte": (flip_byte, "metrics.parquet does not match its checksum"),
    "truncated metrics": (truncate_metrics, "metrics.parquet is damaged"),
    "truncated run": (truncate_run, "run.json is not readable JSON"),
    "no metrics": (lambda folder: (folder / "metrics.parquet").unlink(), "metrics.parquet is missing"),
    "no run": (lambda folder: (folder / "run.json").unlink(), "run.json is missing"),
    "renamed": (lambda folder: folder.rename(folder.with_name("0" * 16)), "the folder has another name"),
    "version": (edited(lambda run: run.update(schema_version=99)), "schema_version=99: expected at most 2"),
    "key": (edited(lambda run: run.pop("pack")), "pack: missing"),
    "type": (edited(lambda run: run["environment"].update(num_threads=True)), "environment.num_threads=True: expected"),
    "status": (edited(lambda run: run.update(status="won")), "status=won: expected one of completed"),
    "lr": (edited(lambda run: run["config"]["optimizer"].update(lr=0.5)), "its config and its fingerprint give"),
    "data": (edited(lambda run: run["fingerprint"].update(data="0")), "its config and its fingerprint give"),
    "config": (edited(lambda run: run["config"]["task"].update(steps=0)), "config: task.steps=0: expected a whole"),
    "seed": (edited(lambda run: run.update(seed=5)), "seed=5: config.seed is 0"),
    "pack": (edited(lambda run: run["pack"].update(shared_timing=True)), "expected a shared timing from a size of 2"),
    "final": (edited(lambda run: run["summary"].update(final_val_loss=0.1)), "summary.final_val_loss=0.1: the rows"),
    "best": (edited(lambda run: run["summary"].update(best_val_loss=None)), "summary.best_val_loss=None: the rows"),
    "target": (edited(lambda run: run["summary"].update(steps_to_target=10)), "summary.steps_to_target=10.0: the rows"),
    "figure": (edited(lambda run: run["summary"].update(final_speed=9)), "summary.final_speed=9.0: the rows give no"),
    "steps": (edited(lambda run: run["summary"].update(num_steps=30)), "summary.num_steps=30: the rows give 20"),
    "column": (edited_metrics(lambda rows: rows.drop(columns="lr")), "metrics.parquet has no column lr"),
    "full": (edited_metrics(lambda rows: rows.drop(columns="full_val_loss")), "has no column full_val_loss"),
    "missing row": (edited_metrics(lambda rows: rows.drop(1)), "row 1 has step 20, expected 10"),
    "twice": (edited_metrics(lambda rows: rows.iloc[[0, 1, 2, 2]]), "has 4 rows up to step 20, expected 3"),
    "shorter": (edited_metrics(lambda rows: rows.head(2)), "ends at step 10, a completed run of 20 steps"),
    "empty": (edited_metrics(lambda rows: rows.head(0)), "metrics.parquet has no rows"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_with_the_run_it_is_in(
    trained: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder,) = trained()
    damage, words = FAULTS[name]
    damage(folder)
    results = folder.parents[2]
    assert main([str(results)]) == 1
    *faults, last = capsys.readouterr().out.splitlines()
    (path,) = (path for path in folder.parent.iterdir() if not path.name.startswith("."))
    assert all(line.startswith(f"{path}: ") for line in faults)
    assert any(words in line for line in faults), faults
    assert last == "1 run: 0 whole, 1 with faults"


def test_runs_are_whole_however_they_ended(
    plan: MakePlan, mapping: Mapping, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    run_job(mapping(*small("mlp"), *SHORT, "diagnostics=true"))
    run_job(mapping(*small("mlp"), *SHORT, "sweep=lr", "sweep.axes.optimizer.lr=[1e-3,1e4]", "pack_size=2"))
    run_job(mapping(*small("quadratic"), "timeout=1e-9"))
    run_job(mapping(*small("quadratic"), "stop_at_target=true", "task.target.value=1e9"))
    made = plan(*small("mlp"), *SHORT, "sweep=seeds", "sweep.axes.seed=[7,8]")
    store, stop = Store(made.session.results_dir), StopSignal()
    stop.number = 2
    (interrupted,) = train([made.trials[0].config], made.tasks.get(made.trials[0].config.task, "cpu"), [], stop)
    failed = Record(made.trials[1].config, status="failed", message="ValueError: no")
    for trial, record in zip(made.trials, (interrupted, failed), strict=True):
        with store.draft(trial) as draft:
            store.save(trial, record, draft)
    runs = [json.loads(file.read_text()) for file in store.results_dir.rglob("run.json")]
    assert {run["status"] for run in runs} == set(STATUSES)
    capsys.readouterr()
    assert main([str(store.results_dir)]) == 0
    assert capsys.readouterr().out == "7 runs: 7 whole, 0 with faults\n"


def test_what_lies_beside_the_runs_is_noted_and_no_fault(
    trained: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = trained()
    shutil.copytree(folder, folder.parents[2] / ".mine" / folder.name)
    damaged = folder.with_name(f".{folder.name}.0123abcd.damaged")
    damaged.mkdir()
    checkpoint = folder.parents[2] / ".checkpoints" / "0123abcd.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    draft = folder.with_name(f".{folder.name}.host.123.0123abcd.tmp")
    draft.mkdir()
    assert main([str(folder.parents[2])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"note: {checkpoint}: checkpoint of trials that are not finished",
        f"note: {folder.parents[2] / '.mine'}: not read by anything, nor checked: 1 run in it",
        f"note: {damaged}: set aside because it was damaged",
        f"note: {draft}: draft of a run in training, or of a process that died",
        "1 run: 1 whole, 0 with faults",
    ]


PACK = ["sweep=seeds", "sweep.axes.seed=[0,1,2]", "pack_size=3"]


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("adamuon", marks=pytest.mark.slow)])
@pytest.mark.parametrize("overrides", [["timeout=1e6"], PACK, [*PACK, "diagnostics=true"]])
def test_a_trial_trained_again_is_equal_bit_by_bit(
    trained: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str], optimizer: str, overrides: list[str]
) -> None:
    folders = trained(f"optimizer={optimizer}", *overrides)
    assert main([str(folders[0].parents[2]), "--replay", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = len(folders)
    assert {line.partition(": ")[2] for line in lines[:count]} == {
        f"{folder}: trained again, equal; compared bit by bit" for folder in folders
    }
    assert lines[count] == f"{count} drawn to train again: {count} equal, 0 different, 0 not replayable"


@pytest.mark.parametrize("overrides", [[], PACK])
def test_a_changed_last_bit_is_found_though_its_checksum_fits(
    trained: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str], overrides: list[str]
) -> None:
    folder = trained(*overrides)[0]
    old = float(pd.read_parquet(folder / "metrics.parquet")["train_loss"][1])
    new = float(np.nextafter(old, math.inf))
    edit_metrics(folder, lambda rows: set_value(rows, "train_loss", 1, new))
    assert main([str(folder.parents[2])]) == 0
    assert main([str(folder.parents[2]), "--replay", "9"]) == 1
    out = capsys.readouterr().out
    assert f"{folder}: trained again, train_loss at step 10: stored {new!r}, now {old!r}\n" in out
    assert " 1 different, 0 not replayable" in out


@pytest.mark.parametrize(("factor", "code"), [(1.01, 0), (1.2, 1)])
def test_another_machine_is_compared_within_a_tolerance(
    trained: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str], factor: float, code: int
) -> None:
    (folder,) = trained()
    edit(folder, lambda run: run["environment"].update(torch="1.0"))
    edit_metrics(folder, lambda rows: set_value(rows, "train_loss", 1, factor * rows["train_loss"][1]))
    assert main([str(folder), "--replay", "1"]) == code
    words = "within 0.05 of each column's largest value, since it rounds otherwise: torch was 1.0"
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("part", ["code", "data"])
def test_a_run_of_other_code_or_data_is_not_trained_again(
    trained: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str], part: str
) -> None:
    (folder,) = trained()
    edit(folder, lambda run: run["fingerprint"].update({part: "0" * 64}))
    assert main([str(rename_to_its_identity(folder)), "--replay", "1"]) == 0
    out = capsys.readouterr().out
    words = {"code": "trained by another version of the code", "data": "trained on other data"}[part]
    assert f": cannot be replayed: {words}\n" in out
    assert "1 drawn to train again: 0 equal, 0 different, 1 not replayable\n1 run: 1 whole" in out


def test_only_a_drawn_run_imports_what_its_config_names(
    trained: Callable[..., list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, honest = trained("sweep=seeds", "sweep.axes.seed=[0,1]", "pack_size=1")
    imported = tmp_path / "imported"
    (tmp_path / "planted.py").write_text(f"open({str(imported)!r}, 'w')\ndef factor(step): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    edit(first, lambda run: run["config"]["schedule"].update(_target_="planted.factor"))
    planted = rename_to_its_identity(first)
    checked = [Checked(folder, "completed", []) for folder in sorted([planted, honest])]
    seed = next(seed for seed in range(99) if choose(checked, 1, seed) == [honest])
    assert main([str(honest.parent), "--replay", "1", "--seed", str(seed)]) == 0
    assert not imported.exists()
    assert main([str(honest.parent), "--replay", "2"]) == 0
    assert imported.exists()
    assert f"{planted}: cannot be replayed: trained by another version of the code" in capsys.readouterr().out


def test_a_replay_says_that_it_leaves_out_what_ran_out_of_time(
    mapping: Mapping, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_job(mapping(*small("quadratic"), "timeout=1e-9"))
    capsys.readouterr()
    assert main([str(tmp_path / "results"), "--replay", "3"]) == 0
    assert "note: 1 that ran out of time were not drawn" in capsys.readouterr().out


def test_the_same_seed_draws_the_same_runs_and_only_those_that_ended_by_themselves() -> None:
    statuses = ("completed", "diverged", "timeout", "failed")
    checked = [Checked(Path(str(n)), statuses[n % 4], ["a fault"] if n < 4 else []) for n in range(40)]
    able = {one.folder for one in checked if one.status in statuses[:2] and not one.faults}
    assert choose(checked, 3, 1) == choose(checked, 3, 1) != choose(checked, 3, 2)
    assert set(choose(checked, 99, 0)) == able


def with_config(**config: Any) -> Callable[[Run], str]:
    return lambda run: json.dumps({**run, "config": {**run["config"], **config}})


def with_summary(**summary: Any) -> Callable[[Run], str]:
    return lambda run: json.dumps({**run, "summary": {**run["summary"], **summary}})


def replaced(old: str, new: str) -> Callable[[Run], str]:
    return lambda run: json.dumps(run).replace(old, new)


HOSTILE: dict[str, Callable[[Run], str]] = {
    "deep": lambda run: "[" * 100_000,
    "deep config": replaced('"precision":', '"x": ' + '{"a":' * 800 + "1" + "}" * 800 + ', "precision":'),
    "deep type": replaced('"status": "completed"', '"status": ' + "[" * 800 + "]" * 800),
    "not a number": with_summary(best_val_loss=math.nan),
    "digits": replaced('"seed": 0', '"seed": ' + "9" * 5000),
    "huge factor": with_config(diverge_factor=10**400),
    "huge target": replaced('"mode": "min"', '"mode": "min", "value": -1' + "0" * 400),
    "huge figure": with_summary(alone_step_seconds=10**400, seconds_to_target=10**400),
    "infinity": replaced('"alone_step_seconds": null', '"alone_step_seconds": 1e999'),
    "list": lambda run: "[]",
    "nulls": lambda run: json.dumps({**dict.fromkeys(run), "schema_version": 1}),
    "page": lambda run: json.dumps({**run, "summary": "<script>\u202e\x1b[31m\n" * 99}),
    "target": with_config(optimizer={"name": "../x", "_target_": "os.system"}),
    "figure": with_summary(**{"\x1b[31m\nok": "\ud800"}),
    "bytes": lambda run: '{"\udcff',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_stranger_wrote_is_told_in_printable_lines(
    trained: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder,) = trained()
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(HOSTILE[name](run), encoding="utf-8", errors="surrogateescape")
    assert main([str(folder), "--replay", "1"]) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    assert lines[-1] == "1 run: 0 whole, 1 with faults"


def test_a_pipe_in_place_of_a_file_is_not_waited_for(
    trained: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = trained()
    (folder / "metrics.parquet").unlink()
    os.mkfifo(folder / "metrics.parquet")
    assert main([str(folder)]) == 1
    assert "metrics.parquet is not a plain file" in capsys.readouterr().out


def test_a_mistake_is_one_line_with_exit_code_2(
    trained: Callable[..., list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = trained()
    (tmp_path / "empty").mkdir()
    mistakes = [[str(tmp_path / "nowhere")], [str(tmp_path / "empty")], [str(folder), "--replay", "-1"], ["x" * 300]]
    for arguments in mistakes:
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert re.fullmatch(r"error: [^\n]+\n", captured.err), captured.err


@pytest.mark.slow
def test_exit_codes_reach_the_shell(trained: Callable[..., list[Path]], start: Callable[..., Command]) -> None:
    (folder,) = trained()
    for damage, code in ((None, 0), (flip_byte, 1)):
        if damage:
            damage(folder)
        done = start("bench.verify", str(folder)).finish()
        assert (done.returncode, done.stderr) == (code, "")
