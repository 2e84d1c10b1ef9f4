"""A table keeps every cell on one line: on a narrow terminal, on a wide one, and in a file."""

import io
import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from bench.jobs import progress
from bench.jobs.job import run_job
from bench.jobs.tables import LAYOUTS, print_table, set_table, short_names

ROWS = [
    {
        "lr": 0.0192823 * scale,
        "weight_decay": 0.179636,
        "betas.0": 0.870474,
        "betas.1": 0.940544,
        "eps": 7.46362e-07,
        "final val_loss": 0.213073,
        "median val_accuracy": 0.926,
        "steps to target": steps,
        "seeds done": "5/5",
    }
    for scale, steps in ((1, 1000), (0.01, math.inf), (1e-5, 260.5))
]


def shown(rows: list[dict[str, Any]], width: int, terminal: bool) -> list[str]:
    console = Console(width=width, force_terminal=terminal, file=io.StringIO(), color_system=None)
    print_table(rows, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [70, 80, 120])
def test_a_wide_sweep_fits_the_terminal_with_one_line_per_cell(width: int) -> None:
    lines = shown(ROWS, width, terminal=True)
    assert max(map(len, lines)) <= width
    assert [len(line.split()) for line in lines[-3:]] == [9, 9, 9]
    assert lines[-2].split()[-2:] == ["never", "5/5"]


def test_a_file_gets_every_digit_whatever_its_width() -> None:
    lines = shown(ROWS, 40, terminal=False)
    assert lines[-3].split()[:2] == ["0.0192823", "0.179636"]
    assert [len(line.split()) for line in lines[-3:]] == [9, 9, 9]


def test_every_layout_shows_the_same_cells_under_the_same_heads() -> None:
    for layout in LAYOUTS:
        lines = set_table(ROWS, layout)
        rule = next(number for number, line in enumerate(lines) if line.startswith("─"))
        assert len(lines) - rule - 1 == len(ROWS)
        spans = [match.span() for match in re.finditer("─+", lines[rule])]
        heads = ["".join(line[start:end].strip() for line in lines[:rule]) for start, end in spans]
        assert heads == [name.replace(" ", "") for name in ROWS[0]]


def test_an_axis_is_headed_by_its_shortest_telling_name() -> None:
    keys = ["optimizer.lr", "optimizer.rest.lr", "optimizer.betas.0", "optimizer.betas.1", "task.loss_scale"]
    assert list(short_names(keys).values()) == ["optimizer.lr", "rest.lr", "betas.0", "betas.1", "loss_scale"]
    assert list(short_names(["optimizer.groups.0.lr", "seed"]).values()) == ["groups.0.lr", "seed"]


def test_a_job_shows_the_accuracy_of_one_run_and_of_a_sweep(
    mapping: Callable[..., dict[str, Any]], small: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    target = ["task.steps=20", "task.target.metric=val_accuracy", "task.target.mode=max", "task.target.value=0.0"]
    run_job(mapping(*small("mlp"), *target))
    assert re.search(r"^final val_accuracy +0\.\d+$", capsys.readouterr().out, re.MULTILINE)
    run_job(mapping(*small("mlp"), *target, "sweep=lr", "pack_size=7"))
    assert re.search(r"^ +lr +val_loss +val_accuracy", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(("num_eval", "where"), [(100, "on 100 of 500 examples"), (500, "while training")])
def test_a_loss_of_some_examples_is_not_shown_as_one_of_all(
    num_eval: int,
    where: str,
    mapping: Callable[..., dict[str, Any]],
    small: Callable[[str], list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.mlp.MLPTask.num_eval", num_eval)
    run_job(mapping(*small("mlp"), "task.steps=2"))
    assert re.search(f"^lowest val_loss {where} +[0-9]", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["pack_size=1"], "one by one: pack_size=1"),
        (["pack_size=auto"], "each alone, measured to be as fast as in packs; pack_size=N trains N together"),
        (["sweep=none", "+sweep.axes.task.width=[4,8]"], "one by one: no other trial has the same structure"),
    ],
)
def test_what_trains_one_by_one_says_why_once(
    overrides: list[str],
    reason: str,
    mapping: Callable[..., dict[str, Any]],
    small: Callable[[str], list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.jobs.calibration.Calibration.pack_size", lambda *args: (1, 1.0))
    run_job(mapping(*small("mlp"), "sweep=lr", "workers=1", "dry_run=true", *overrides))
    assert capsys.readouterr().out.count(f"  {reason}\n") == 1


def test_axes_that_stand_on_the_command_line_alone_are_headed_as_a_grid(
    mapping: Callable[..., dict[str, Any]], small: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    groups = ["optimizer.groups=[{match: '*', lr: 0.1}]", "+sweep.axes.optimizer.groups.0.lr=[0.1,1.0]"]
    run_job(mapping(*small("quadratic"), "task.steps=2", "optimizer=adamw", *groups))
    said = capsys.readouterr().out
    assert "sweep grid: optimizer.groups.0.lr (2): 2 cells" in said
    assert "adamw on quadratic, sweep grid, by final val_loss" in said


@pytest.mark.parametrize(("num_trials", "detail"), [(1, "train_loss 0.123"), (1024, "median loss 0.123")])
def test_progress_says_whose_loss_it_shows_within_70_columns(
    num_trials: int, detail: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    display = progress.Display({str(number): 100_000 for number in range(num_trials)}, "mlp adamw, tuning")
    display._started -= 3600.0
    display.num_done, display.num_diverged = num_trials - 1, num_trials // 11
    records: Any = [SimpleNamespace(rows=[{"lr": 1.234567e-05}])] * min(num_trials, 256)
    display.on_step(records, 99_999, torch.full((len(records),), 0.12344))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mlp adamw, tuning: ")
    assert detail in line
    assert " left" in line
    assert len(line) <= 70


def test_the_last_line_of_a_stage_names_it_and_promises_no_end_of_the_others(
    mapping: Callable[..., dict[str, Any]], small: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["sweep=search", "sweep.search.num_trials=8", "sweep.fresh_seeds=[100,101]"]
    run_job(mapping(*small("quadratic"), "task.steps=5", "optimizer=lion", *sweep, "workers=1"))
    lines = [line for line in capsys.readouterr().err.splitlines() if " done" in line]
    assert [line.partition(", took ")[0] for line in lines] == [
        "quadratic lion, tuning: 6/6 done",
        "quadratic lion, finalists: 2/2 done",
        "quadratic lion, fresh seeds: 2/2 done",
    ]
    assert not any(" left" in line for line in lines)


def test_a_long_name_leaves_room_for_how_much_is_done_and_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    display = progress.Display({str(number): 100_000 for number in range(200)}, f"{'x' * 30}, fresh seeds")
    display._started -= 3600.0
    display.num_diverged = 120
    display.glimpsed(0, progress.Glimpse(num_steps=10_000_000, loss=1.0, lr=0.1))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(": 0/200 done, 60 min left")


def test_trials_that_were_stopped_are_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    display = progress.Display({"a": 100, "b": 100}, "mlp adamw")
    for run_id, status in (("a", "completed"), ("b", "interrupted")):
        display.trial_ended(SimpleNamespace(run_id=run_id, status=status))  # type: ignore[arg-type]
    assert display.num_done == 1
    assert "2/2" not in capsys.readouterr().err


def test_progress_counts_what_all_workers_have_in_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    display = progress.Display({str(number): 100 for number in range(4)}, "mlp adamw")
    display.glimpsed(0, progress.Glimpse(num_steps=50, loss=1.0, lr=0.1))
    display.glimpsed(1, progress.Glimpse(num_steps=60, loss=0.5, lr=0.1))
    assert display.shown_steps == 110
    display.glimpsed(0, progress.Glimpse(num_steps=120, loss=0.7, lr=0.1))
    assert display.shown_steps == 180
    display.glimpsed(1, None)
    assert display.shown_steps == 180
    assert "median loss 0.7" in capsys.readouterr().err.splitlines()[-1]
