"""Hydra's launchers and sweepers carry our jobs, with the commands that the README shows."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import Command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^```bash title="(?:launchers|ray)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^python -m (bench -m .+)$", "\n".join(BLOCK.findall((ROOT / "README.md").read_text())), re.M)
Run = Callable[..., Command]
TINY = "task=quadratic task.steps=20 tracker=none"


def command_with(choice: str, plugin: str) -> list[str]:
    """The README's command for one of Hydra's plugins, with a task of a moment. Skips where the plugin is missing."""
    if find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"{plugin} is not installed: an optional extra")
    (command,) = (command for command in COMMANDS if choice in command)
    return shlex.split(command.replace("task=mlp", TINY))


@pytest.fixture
def run(start: Callable[..., Command], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Command]:
    """A command in a process of its own; those that it starts itself are fresh ones, and find us."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return start


def read_runs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in folder.glob("results/*/*/*/run.json")]


@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_launcher_carries_jobs_to_processes_that_share_one_results_folder(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    command = [sys.executable, "-m", *command_with(f"hydra/launcher={launcher}", f"hydra_{launcher}_launcher")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    runs = read_runs(tmp_path)
    assert sorted(run["config"]["optimizer"]["name"] for run in runs) == ["adamuon"] * 7 + ["adamw"] * 7
    assert {run["status"] for run in runs} <= {"completed", "diverged"}
    assert len({run["run_id"] for run in runs}) == 14


PREEMPTED = """
import contextlib
import pathlib
import signal

import torch


class Preempted(torch.optim.SGD):
    num_steps = 0

    def step(self, closure=None):
        self.num_steps += 1
        if self.num_steps == 7:
            with contextlib.suppress(FileExistsError):
                pathlib.Path("preempted").touch(exist_ok=False)
                signal.raise_signal(signal.SIGUSR2)  # what SLURM sends before it ends a job
        return super().step(closure)
"""


def test_submitit_carries_jobs_and_requeues_a_preempted_one_which_goes_on_from_its_checkpoint(
    run: Run, tmp_path: Path
) -> None:
    """The first job to take seven steps is preempted then."""
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "preempted.py").write_text(PREEMPTED)
    args = command_with("hydra/launcher=submitit_local", "hydra_submitit_launcher")
    own = ["optimizer=sgd", "optimizer._target_=optimizers.preempted.Preempted", "seed=0,1", "sweep=none"]
    done = run(*[arg for arg in args if not arg.startswith(("optimizer=", "sweep="))], *own).finish()
    assert done.returncode == 0, done.stderr
    told = "".join(path.read_text() for path in tmp_path.rglob("*_log.*"))
    assert told.count("Requeued job") == 1
    assert told.count("1 trial goes on from step 7 of 20") == 1
    assert {run["seed"]: run["status"] for run in read_runs(tmp_path)} == {0: "completed", 1: "completed"}


def expect_results_at_once() -> None:
    """Submitit gives slow file systems 15 seconds to show what a job that has ended has written."""
    from submitit import Job

    Job._results_timeout_s = 0


def test_submitit_job_of_a_mistaken_command_ends_in_one_line(run: Run) -> None:
    args = command_with("hydra/launcher=submitit_local", "hydra_submitit_launcher")
    done = run(*args, "optimizer=adamw", "precision=float8", before=expect_results_at_once).finish()
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: precision=float8: expected one of")


def test_optuna_minimises_the_final_validation_loss(run: Run, tmp_path: Path) -> None:
    args = command_with("hydra/sweeper=tpe", "hydra_optuna_sweeper")
    done = run(*[re.sub("n_trials=30", "n_trials=4", arg) for arg in args]).finish()
    assert done.returncode == 0, done.stderr
    losses = {run["config"]["optimizer"]["lr"]: run["summary"]["final_val_loss"] for run in read_runs(tmp_path)}
    assert len(losses) == 4
    (file,) = tmp_path.rglob("optimization_results.yaml")
    result = yaml.safe_load(file.read_text())
    assert result["best_value"] == pytest.approx(min(losses.values()))
    assert losses[result["best_params"]["optimizer.lr"]] == min(losses.values())


def test_slurm_preset_is_submitits_launcher_with_one_gpu_a_job(run: Run) -> None:
    if find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        pytest.skip("hydra_submitit_launcher is not installed: an optional extra")
    done = run("bench", "hydra/launcher=slurm", "hydra.launcher.partition=gpu", "--cfg", "hydra").finish()
    assert done.returncode == 0, done.stderr
    launcher = yaml.safe_load(done.stdout)["hydra"]["launcher"]
    assert launcher["_target_"].endswith("SlurmLauncher")
    assert (launcher["partition"], launcher["gpus_per_node"]) == ("gpu", 1)
