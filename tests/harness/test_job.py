"""A job from its plan to its runs: packs, workers, fresh seeds, kills, damage."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from bench.config.sweep import STAGES
from bench.jobs.calibration import Calibration
from bench.jobs.job import run_job, train_plan
from bench.jobs.plan import Plan
from bench.jobs.summary import edge_warnings
from bench.runs.objective import rank_cells
from bench.training.ensemble import Ensemble
from tests.processes import TRAINING_STEP, Command, at_call
from tests.results import losses, stored

Mapping = Callable[..., dict[str, Any]]
MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
Start = Callable[..., Command]


@pytest.mark.slow
def test_packed_runs_are_flagged_and_their_seconds_derived_from_a_calibration(mapping: Mapping, small: Small) -> None:
    easy = ["task.target.value=2.2", "task.steps=100"]
    composed = mapping(*small("mlp"), *easy, "sweep=seeds", "pack_size=5", "optimizer.lr=0.01")
    run_job(composed)
    for run in stored(Path(composed["results_dir"])).values():
        summary = run["summary"]
        assert run["pack"] == {"size": 5, "shared_timing": True}
        assert summary["seconds_to_target_derived"]
        assert summary["seconds_to_target"] == pytest.approx(summary["steps_to_target"] * summary["alone_step_seconds"])


def test_pack_size_chooses_between_packs_and_one_by_one(mapping: Mapping, small: Small) -> None:
    composed = mapping(*small("mlp"), "task.steps=10", "sweep=seeds", "pack_size=1")
    run_job(composed)
    assert {run["pack"]["size"] for run in stored(Path(composed["results_dir"])).values()} == {1}


def test_the_measured_pack_size_is_kept(
    plan: MakePlan, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(*small("mlp"), "sweep=seeds", "sweep.axes.seed=[range,0,40]")
    task = made.tasks.get(made.trials[0].config.task, "cpu")
    first = Calibration(tmp_path).pack_size(task, made.trials)
    monkeypatch.setattr("bench.jobs.calibration.make_learner", None)
    assert Calibration(tmp_path).pack_size(task, made.trials) == first
    scaled = plan(*small("mlp"), "sweep=seeds", "sweep.axes.seed=[range,0,40]", "task.loss_scale=0.001")
    assert Calibration(tmp_path).pack_size(task, scaled.trials) == first, "for equality across loss scales, bit by bit"


def test_the_only_missing_trial_of_a_pack_gets_the_bits_that_it_had_there(mapping: Mapping, small: Small) -> None:
    composed = mapping(*small("mlp"), "task.steps=40", "optimizer=muon", "sweep=seeds", "pack_size=5")
    run_job(composed)
    results = Path(composed["results_dir"])
    before = losses(results)
    shutil.rmtree(next(results.rglob("run.json")).parent)
    run_job(composed)
    assert losses(results) == before


def test_out_of_memory_halves_the_pack_and_goes_on(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Tight(Ensemble):
        def __init__(self, task: Any, trials: Any) -> None:
            if len(trials) > 2:
                raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")
            super().__init__(task, trials)

    monkeypatch.setattr("bench.training.train.Ensemble", Tight)
    composed = mapping(*small("mlp"), "task.steps=10", "sweep=seeds", "pack_size=5")
    run_job(composed)
    runs = stored(Path(composed["results_dir"])).values()
    assert [run["status"] for run in runs] == ["completed"] * 5
    assert "does not fit into memory" in caplog.text


def test_the_best_cell_is_trained_again_on_fresh_seeds(mapping: Mapping, small: Small) -> None:
    fresh = "sweep.fresh_seeds=[100,101]"
    composed = mapping(*small("mlp"), "task.steps=30", "sweep=search", "sweep.search.num_trials=3", fresh)
    objective = run_job(composed)
    runs = list(stored(Path(composed["results_dir"])).values())
    searched = [run for run in runs if run["sweep"]["name"] == "search"]
    confirmed = [run for run in runs if run["sweep"]["name"] == "fresh_seeds"]
    best = min(searched, key=lambda run: run["summary"]["final_val_loss"])
    assert sorted(run["seed"] for run in confirmed) == [100, 101]
    assert {run["config"]["optimizer"]["lr"] for run in confirmed} == {best["config"]["optimizer"]["lr"]}
    assert objective == pytest.approx(sum(run["summary"]["final_val_loss"] for run in confirmed) / 2)


def test_every_search_chooses_among_its_finalists_and_shows_the_best_on_its_own_fresh_seeds(
    mapping: Mapping, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    searches = ["sweep=search", "sweep.search.num_trials=8", "sweep.search.replicates=2", "sweep.fresh_seeds=[100,101]"]
    composed = mapping(*small("quadratic"), "task.steps=10", "task.noise=0.1", *searches)
    objective = run_job(composed)
    assert "sweep search, by final val_loss, mean over seeds, those on more seeds first\n" in capsys.readouterr().out
    runs = list(stored(Path(composed["results_dir"])).values())
    shown = []
    for replicate in (0, 1):
        search = [run for run in runs if run["sweep"]["replicate"] == replicate]
        by_stage = {stage: [run for run in search if run["sweep"]["stage"] == stage] for stage in STAGES}
        assert {stage: len(members) for stage, members in by_stage.items()} == {"tuning": 6, "choosing": 2, "fresh": 2}
        assert sorted(run["seed"] - 1000 * replicate for run in search) == [0] * 6 + [1] * 2 + [100, 101]
        loss = {stage: {run["config"]["optimizer"]["lr"]: run["summary"]["final_val_loss"] for run in members}
                for stage, members in by_stage.items()}  # fmt: skip
        finalists = sorted(loss["tuning"], key=loss["tuning"].__getitem__)[:2]
        assert set(loss["choosing"]) == set(finalists)
        assert set(loss["fresh"]) == {min(finalists, key=lambda lr: loss["tuning"][lr] + loss["choosing"][lr])}
        shown.append(fmean(run["summary"]["final_val_loss"] for run in by_stage["fresh"]))
    assert objective == pytest.approx(fmean(shown))


def test_a_grid_grows_until_its_best_cell_is_interior_and_never_over_a_legal_bound(
    mapping: Mapping, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = ["sweep.axes.optimizer.lr=[1e-4,1e-3]", "+sweep.axes.optimizer.momentum=[0.8,0.95]", "sweep.grow=true"]
    composed = mapping(*small("quadratic"), "task.steps=30", "optimizer=muon", "sweep=lr", *axes, "pack_size=8")
    run_job(composed)
    runs = list(stored(Path(composed["results_dir"])).values())
    rates = sorted({run["sweep"]["cell"]["optimizer.lr"] for run in runs})
    best = min(runs, key=lambda run: run["summary"]["final_val_loss"])["sweep"]["cell"]
    assert rates[0] < best["optimizer.lr"] < rates[-1]
    assert all(0 <= run["sweep"]["cell"]["optimizer.momentum"] < 1 for run in runs)
    shown = capsys.readouterr().out
    assert "the grid grows: optimizer.lr=0.01, as the best sits at 0.001" in shown
    run_job(composed)
    assert len(stored(Path(composed["results_dir"]))) == len(runs)


def test_an_edge_is_one_of_the_axis_and_not_of_the_cells_that_are_done(plan: MakePlan, small: Small) -> None:
    axis = "sweep.axes.optimizer.lr=[1e-3,1e-2,1e-1]"
    made = plan(*small("quadratic"), "task.steps=10", "optimizer=sgd", "sweep=lr", axis)
    runs = train_plan(made, tell=False)
    done = [run for run in runs if run.cell["optimizer.lr"] < 0.1]
    assert rank_cells(done)[0][1][0].cell == {"optimizer.lr": 0.01}
    assert edge_warnings(made, done) == []
    assert len(edge_warnings(made, [run for run in runs if run.cell["optimizer.lr"] == 1e-3])) == 1


def test_a_search_warns_of_the_ends_of_its_space_and_not_of_its_few_points(plan: MakePlan, small: Small) -> None:
    """The default, 0.1, is the best but for larger ones; of those up to 1 the largest drawn is 0.27."""
    search = ["task.steps=10", "optimizer=sgd", "sweep=search", "sweep.search.num_trials=4"]
    of_lr = []
    for high in (0.1, 1.0):
        space = f"optimizer.search_space={{lr: {{low: 0.001, high: {high}, scale: log}}}}"
        made = plan(*small("quadratic"), *search, space)
        runs = train_plan(made, tell=False)
        assert rank_cells(runs)[0][1][0].cell["optimizer.lr"] == max(run.cell["optimizer.lr"] for run in runs)
        of_lr.append([warning for warning in edge_warnings(made, runs) if "optimizer.lr" in warning])
    told = "The best optimizer.lr=0.1 lies at the higher end of its search_space: widen it there."
    assert of_lr == [[told], []]


def test_one_axis_grows_for_each_combination_of_the_others_by_itself(
    mapping: Mapping, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = ["sweep.axes.optimizer.lr=[1e-2,1e-1]", "sweep.axes.optimizer.eps=[1e-8,1.0]", "+sweep.axes.seed=[0,1]"]
    grow = "sweep.grow=optimizer.lr"
    composed = mapping(
        *small("quadratic"), "task.steps=30", "optimizer=adam", "sweep=lr_eps", *axes, grow, "pack_size=8"
    )
    run_job(composed)
    runs = list(stored(Path(composed["results_dir"])).values())
    tried = []
    for eps in (1e-8, 1.0):
        row = [run for run in runs if run["sweep"]["cell"]["optimizer.eps"] == eps]
        losses: dict[float, list[float]] = {}
        for run in row:
            losses.setdefault(run["sweep"]["cell"]["optimizer.lr"], []).append(run["summary"]["final_val_loss"])
        assert all(len(values) == 2 for values in losses.values())
        best = min(losses, key=lambda lr: fmean(losses[lr]))
        assert min(losses) < best < max(losses)
        tried.append(set(losses))
    assert tried[0] != tried[1]  # a large eps wants a larger lr, and nothing else is trained there
    assert "the grid grows: optimizer.lr, as the best sits on its edge at" in capsys.readouterr().out
    run_job(composed)
    assert len(stored(Path(composed["results_dir"]))) == len(runs)


def test_replicates_share_packs(plan: MakePlan, small: Small) -> None:
    search = ["sweep=search", "sweep.search.num_trials=4", "sweep.search.replicates=3", "pack_size=16"]
    (pack,) = plan(*small("mlp"), *search).packing.packs
    assert len(pack.trials) == 12


def test_a_plan_tells_of_every_stage_before_anything_is_trained(
    mapping: Mapping, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    search = ["sweep=search", "sweep.search.num_trials=8", "sweep.search.replicates=2", "sweep.fresh_seeds=[100]"]
    run_job(mapping(*small("mlp"), *search, "dry_run=true", "pack_size=4"))
    shown = capsys.readouterr().out
    assert "12 cells" in shown
    assert "on 1 more seed: 4 trials" in shown
    assert "on 1 fresh seed: 2 trials" in shown


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(small: Small, start: Start, tmp_path: Path) -> None:
    """kill -9 while it trains and while it stores, started again each time: every cell once, as in a calm sweep."""
    sweep = ["sweep=seeds", "sweep.axes.seed=[range,0,6]", "pack_size=2", "tracker=none"]
    train = partial(start, "bench", *small("mlp"), *sweep)
    assert train("results_dir=calm").finish().returncode == 0
    for place, number in ((TRAINING_STEP, 30), ("os.rename", 2), (TRAINING_STEP, 150), ("os.fsync", 5)):
        kill = partial(at_call, place, number, partial(signal.raise_signal, signal.SIGKILL))
        assert train("results_dir=killed", before=kill).finish().returncode == -signal.SIGKILL
    assert train("results_dir=killed").finish().returncode == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "calm")
    assert len(stored(tmp_path / "killed")) == 6
    assert not list((tmp_path / "killed" / "mlp").rglob("*.tmp"))


@pytest.mark.slow
def test_a_thousand_cells_are_a_thousand_readable_runs(mapping: Mapping) -> None:
    axes = ["sweep=lr", "sweep.axes.optimizer.lr=[logspace,1e-4,1e-1,50]", "+sweep.axes.seed=[range,0,20]"]
    composed = mapping("task=quadratic", "task.steps=5", *axes, "pack_size=250", "optimizer=adam")
    started = time.perf_counter()
    run_job(composed)
    assert time.perf_counter() - started < 60
    assert len(stored(Path(composed["results_dir"]))) == 1000
    assert len(losses(Path(composed["results_dir"]))) == 1000


def children_of(process: int, command: str) -> list[int]:
    listed = subprocess.run(["pgrep", "-f", "-P", str(process), command], capture_output=True, text=True, check=False)
    return list(map(int, listed.stdout.split()))


@pytest.mark.slow
def test_a_killed_worker_costs_its_pack_and_workers_give_the_same_runs_as_this_process(
    mapping: Mapping, small: Small, start: Start, tmp_path: Path
) -> None:
    sweep = ["sweep=seeds", "sweep.axes.seed=[range,0,6]", "pack_size=3"]
    overrides = [*small("mlp"), "task.steps=600", *sweep]
    process = start("bench", *overrides, "workers=2", "tracker=none", "results_dir=there")
    workers: list[int] = []
    deadline = time.monotonic() + 60
    while len(workers) < 2 and process.running and time.monotonic() < deadline:
        (server, *_) = children_of(process.pid, "forkserver") or [process.pid]
        workers = children_of(server, "forkserver")
        time.sleep(0.05)
    os.kill(workers[-1], signal.SIGKILL)
    done = process.finish()
    assert done.returncode == 0, done.stderr
    assert "a worker died" in done.stderr
    assert [run["status"] for run in stored(tmp_path / "there").values()] == ["completed"] * 6
    run_job(mapping(*overrides, f"results_dir={tmp_path / 'here'}"))
    assert losses(tmp_path / "here") == losses(tmp_path / "there")
