"""Trackers mirror every trial under its own id, live and offline too; their failures never reach the training."""

import itertools
import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import wandb

from bench.config.session import TrackerConfig
from bench.errors import ConfigError
from bench.jobs.job import run_job
from bench.jobs.plan import make_plan
from bench.jobs.trackers import wandb_session
from bench.jobs.trackers.metrics import group_of, name_of
from bench.jobs.trackers.wandb_run import WandbRun, log_report, log_sweep
from bench.jobs.trackers.wandb_session import session
from tests.harness.wandb_files import OfflineRun, read_offline_runs

Mapping = Callable[..., dict[str, Any]]
Small = Callable[[str], list[str]]
KEY = "x" * 40
SHORT = ("task.steps=20", "task.eval_every=10")


@pytest.fixture(autouse=True)
def _logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("API_KEY", "MODE", "SWEEP_ID", "RUN_ID", "PROJECT", "NAME", "TAGS", "DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    session.cache_clear()
    yield
    session.cache_clear()
    wandb.teardown()


def offline_runs(composed: dict[str, Any]) -> list[OfflineRun]:
    return read_offline_runs(Path(composed["results_dir"]))


@pytest.mark.parametrize("pack_size", [1, 3])
def test_seeds_are_runs_of_one_group_with_axes_metrics_and_summaries(
    mapping: Mapping, small: Small, pack_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    axes = ["sweep=seeds", "sweep.axes.seed=[0,1,2]", f"pack_size={pack_size}"]
    composed = mapping(*small("mlp"), *SHORT, *axes, "tracker=wandb", "tracker.tags=[mine]", "clip_norm=1")
    run_job(composed)
    runs = offline_runs(composed)
    stored = {
        path.parent.name: json.loads(path.read_text()) for path in Path(composed["results_dir"]).rglob("run.json")
    }
    assert {run.run_id for run in runs} == set(stored)
    assert sorted(run.name for run in runs) == [f"adamw-mlp seed={seed}" for seed in range(3)]
    assert len({run.group for run in runs}) == 1
    for run in runs:
        assert [row["train/step"] for row in run.history if "val/loss" in row] == [0, 10, 20]
        told = {"train/loss", "train/lr", "train/samples", "train/grad_norm", "time/steps_per_second"}
        assert told <= set(run.history[-1])
        assert not any(name.startswith("time/") for name in run.summary)
        assert run.history[-1]["time/train_seconds"] > 0
        assert (run.metrics["*"].step_metric, run.job_type) == ("train/step", "train")
        assert run.metrics["val/loss"].summary.min
        assert run.summary["final_val_loss"] == stored[run.run_id]["summary"]["final_val_loss"]
        assert "steps_to_target" not in run.summary  # never reached: not Infinity, which wandb cannot plot
        assert not {"paper", "search_space"} & set(run.config["optimizer"])
        assert {"adamw", "mlp", "seeds", "mine"} <= set(run.tags)
    folder = Path(composed["results_dir"]) / "wandb"
    assert f"this sends its runs: wandb sync {folder}/offline-run-*" in caplog.text
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 3 * 50_000
    assert not list(folder.rglob("*.log"))


def test_what_wandb_notes_for_its_developers_is_kept_of_failed_runs(
    mapping: Mapping, small: Small, tmp_path: Path
) -> None:
    plan = make_plan(mapping(*small("mlp"), *SHORT, "tracker=wandb"))
    for exit_code in (0, 1):
        folder = tmp_path / str(exit_code)
        session().finish(session().init(plan.session.tracker, folder, is_agents=False, id=f"x{exit_code}"), exit_code)
        assert bool(list(folder.rglob("*.log"))) is bool(exit_code)


def test_a_trial_trained_again_is_the_same_run_told_once(mapping: Mapping, small: Small) -> None:
    composed = mapping(*small("mlp"), *SHORT, "tracker=wandb")
    run_job(composed)
    run_job({**composed, "force": True})
    (run,) = offline_runs(composed)
    assert [row["train/step"] for row in run.history if "val/loss" in row] == [0, 10, 20]
    assert run.summary["objective"] == run.summary["final_val_loss"]


def test_a_run_resumed_online_is_told_only_what_it_does_not_have(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    logged, asked = [], {}
    stub = SimpleNamespace(resumed=True, summary={"train/step": 10}, define_metric=lambda *names, **options: None)
    stub.log = lambda values, step: logged.append(step)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_session, "_ask", lambda url: None)
    monkeypatch.setattr(wandb, "init", lambda **options: asked.update(options) or stub)
    (trial,) = make_plan(mapping(*small("mlp"), *SHORT)).trials
    run = WandbRun(TrackerConfig(wandb=True), trial, tmp_path)
    for step in (0, 10, 20):
        run.log(step, {"train/step": step})
    assert logged == [20]
    assert (asked["id"], asked["resume"], asked["mode"]) == (trial.run_id, "allow", "online")


def test_an_agents_job_has_one_run_by_the_agents_id_also_where_the_trial_is_there_already(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    for agent_run in ("first", "second"):
        monkeypatch.setenv("WANDB_RUN_ID", agent_run)
        session.cache_clear()
        wandb.teardown()
        composed = mapping(*small("mlp"), *SHORT, "tracker=wandb")
        run_job(composed)
    runs = {run.run_id: run for run in offline_runs(composed)}
    assert set(runs) == {"first", "second"}
    assert {run.sweep_id for run in runs.values()} == {"sweep123"}
    assert runs["first"].summary["objective"] == runs["second"].summary["objective"]
    assert len(runs["second"].history) == 3


def test_an_agents_sweep_of_trials_gives_each_its_own_id_and_the_objective_to_the_agent(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    monkeypatch.setenv("WANDB_RUN_ID", "agent-run")
    monkeypatch.setenv("WANDB_TAGS", "night,shift")
    monkeypatch.setenv("WANDB_NAME", "trying")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    composed = mapping(*small("mlp"), *SHORT, "tracker=wandb", "sweep=seeds", "sweep.axes.seed=[0,1]", "pack_size=2")
    objective = run_job(composed)
    runs = {run.run_id: run for run in offline_runs(composed)}
    agents = runs.pop("agent-run")
    assert (agents.sweep_id, agents.job_type, agents.summary["objective"]) == ("sweep123", "sweep", objective)
    assert sorted(run.name for run in runs.values()) == ["trying seed=0", "trying seed=1"]
    assert all({"night", "shift"} <= set(run.tags) and run.project == "mine" for run in runs.values())
    assert {run.sweep_id for run in runs.values()} == {""}


def test_one_run_per_sweep_holds_a_table_with_blanks_where_a_trial_failed(mapping: Mapping, small: Small) -> None:
    composed = mapping(*small("mlp"), *SHORT, "tracker=wandb", "tracker.runs=sweep", "sweep=seeds", "pack_size=5")
    run_job(composed)
    plan = make_plan(composed)
    runs = list(plan.finished.values())
    failed = {**runs[0].summary.model_dump(), "final_val_loss": None}
    del failed["final_val_accuracy"]
    runs[1] = runs[1].model_copy(update={"status": "failed", "summary": type(runs[1].summary)(**failed)})
    log_sweep(plan.session.tracker, plan.trials[0], runs, 1.0, Path(composed["results_dir"]))
    tables = [json.loads(file.read_text()) for file in Path(composed["results_dir"]).rglob("trials_*.table.json")]
    assert [len(table["data"]) for table in tables] == [5, 5]
    whole, with_failed = sorted(tables, key=lambda table: [row[1] for row in table["data"]].count("failed"))
    column = with_failed["columns"].index("final_val_accuracy")
    assert [row[column] is None for row in with_failed["data"]] == [False, True, False, False, False]
    assert whole["columns"] == with_failed["columns"]


def test_the_report_is_an_artifact_of_its_own_run(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<p>page")
    log_report(TrackerConfig(wandb=True), tmp_path, tmp_path / "report")
    (run,) = read_offline_runs(tmp_path)
    assert (run.job_type, run.artifacts) == ("report", ["report/report"])


def test_a_failing_wandb_does_not_fail_the_training(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb, "init", lambda **options: 1 / 0)
    assert run_job(mapping(*small("mlp"), "task.steps=5", "tracker=wandb")) < 10
    assert "WandbRun failed and is left out: ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("server", ["refuses", pytest.param("is silent", marks=pytest.mark.slow)])
def test_a_server_that_does_not_answer_costs_one_timeout_and_no_data(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, server: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # accepts connections and never says a word
        port = listening.getsockname()[1]
        if server == "refuses":
            listening.close()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setattr(wandb_session, "TIMEOUT", 1.0)
        composed = mapping(*small("mlp"), *SHORT, "tracker=wandb", "sweep=seeds", "sweep.axes.seed=[0,1]")
        run_job(composed)
    assert [len(run.history) for run in offline_runs(composed)] == [3, 3]
    assert caplog.text.count("does not answer") == 1


@pytest.mark.parametrize(
    ("environment", "settings", "mode"),
    [
        ({}, "", "offline"),
        ({"WANDB_API_KEY": KEY}, "", "online"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "dryrun"}, "", "offline"),
        ({"WANDB_API_KEY": KEY}, "mode = offline", "offline"),  # what `wandb offline` writes
        ({"WANDB_MODE": "disabled"}, "", "disabled"),
        ({}, "base_url = http://wandb.my.lab", "online"),  # where the login below belongs to
    ],
)
def test_wandbs_own_settings_decide_where_runs_go(
    environment: dict[str, str], settings: str, mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text(f"machine wandb.my.lab login user password {KEY}\n")
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text(f"[default]\n{settings}\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    wandb.teardown()
    monkeypatch.setattr(wandb_session, "_ask", lambda url: None)
    assert session().mode == mode
    if "my.lab" in settings:
        assert session().settings.base_url == "http://wandb.my.lab"


def test_names_show_what_is_swept_and_groups_tell_cells_apart(mapping: Mapping, small: Small) -> None:
    axes = ["sweep=lr", "sweep.axes.optimizer.lr=[0.01,0.1]", "+sweep.axes.seed=[0,1]"]
    trials = make_plan(mapping(*small("mlp"), *SHORT, *axes)).trials
    longer = make_plan(mapping(*small("mlp"), "task.steps=30", *axes)).trials
    assert name_of(trials[0], None) == "adamw-mlp lr=0.01 seed=0"
    assert name_of(trials[3], "night") == "night lr=0.1 seed=1"
    assert [group_of(trial) == group_of(trials[0]) for trial in trials] == [True, True, False, False]
    assert group_of(longer[0]) != group_of(trials[0])


def test_csv_and_tensorboard_mirror_the_same_metrics_side_by_side(
    mapping: Mapping, small: Small, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    composed = mapping(*small("mlp"), *SHORT, "tracker=[csv,tensorboard]", "sweep=seeds", "pack_size=5")
    run_job(composed)
    results = Path(composed["results_dir"])
    assert [record.getMessage() for record in caplog.records[-2:]] == [
        f"{name}: {results / name}" for name in ("csv", "tensorboard")
    ]
    tables = {file.stem: pd.read_csv(file) for file in (results / "csv").glob("*.csv")}
    assert len(tables) == 5
    for name, table in tables.items():
        told = EventAccumulator(str(results / "tensorboard" / name)).Reload()
        rows = table.dropna(subset="val/loss")
        assert [event.step for event in told.Scalars("val/loss")] == rows["train/step"].tolist() == [0, 10, 20]
        assert [event.value for event in told.Scalars("val/loss")] == pytest.approx(rows["val/loss"].tolist())
        assert told.Scalars("summary/final_val_loss")


@pytest.mark.parametrize(("eval_every", "told"), [(2, []), (10, [3, 6, 9, 13, 16, 19])])
def test_losses_are_told_between_evaluations_only_where_none_comes_for_a_second(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch, eval_every: int, told: list[int]
) -> None:
    clock = SimpleNamespace(monotonic=itertools.count(step=0.4).__next__)  # a step takes 0.4 s
    monkeypatch.setattr("bench.jobs.trackers.tracker.time", clock)
    composed = mapping(*small("mlp"), "task.steps=20", f"task.eval_every={eval_every}", "tracker=csv")
    run_job(composed)
    (file,) = Path(composed["results_dir"], "csv").glob("*.csv")
    table = pd.read_csv(file)
    assert table["train/step"][table["val/loss"].notna()].tolist() == [*range(0, 21, eval_every)]
    assert table["train/step"][table["val/loss"].isna()].tolist() == told


def test_without_its_package_only_asking_for_a_tracker_is_a_mistake(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    run_job(mapping(*small("mlp"), "task.steps=5", "tracker=none"))
    with pytest.raises(ConfigError, match="tracker=wandb: not installed"):
        run_job(mapping(*small("mlp"), "task.steps=6", "tracker=wandb"))
    with pytest.raises(
        ConfigError, match=r"not installed: in .*, pip install -c constraints.txt -e '\.\[tensorboard\]'"
    ):
        run_job(mapping(*small("mlp"), "task.steps=6", "tracker=tensorboard"))
    monkeypatch.setattr("bench.errors.__file__", "/site-packages/bench/errors.py")
    with pytest.raises(ConfigError, match=r"not installed: pip install 'fairstep\[tensorboard\]', or"):
        run_job(mapping(*small("mlp"), "task.steps=6", "tracker=tensorboard"))
