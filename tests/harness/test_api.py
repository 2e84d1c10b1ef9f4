"""What `import bench` gives: the runs of the shell, frames, figures, and mistakes in one line."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import bench
from bench.__main__ import main
from bench.errors import ConfigError
from bench.runs.schema import Run
from tests.results import losses

ROOT = Path(__file__).parents[2]
Small = Callable[[str], list[str]]


def test_a_trial_is_the_same_run_from_python_and_from_the_shell(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = [*small("mlp"), "task.steps=10", "sweep=seeds", "pack_size=5", "tracker=none"]
    monkeypatch.setattr(sys, "argv", ["bench", *overrides, "results_dir=shell"])
    main()
    plan = bench.plan(*overrides, "results_dir=python")
    assert [trial.run_id for trial in plan.missing] == [trial.run_id for trial in plan.trials]
    runs = bench.train(plan)
    assert [run.run_id for run in runs] == [trial.run_id for trial in plan.trials]
    assert losses(tmp_path / "shell") == losses(tmp_path / "python")
    assert not bench.plan(*overrides, "results_dir=shell").missing
    assert all(isinstance(run, Run) and run.folder.is_dir() for run in runs)


def test_training_from_python_prints_no_tables(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.train(bench.plan(*small("quadratic"), "task.steps=5", "tracker=none", f"results_dir={tmp_path}"))
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_notebook_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r'^```python title="notebook"\n(.*?)^```$', (ROOT / "README.md").read_text(), re.M | re.S)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert "madam" in capsys.readouterr().out
    assert (tmp_path / "convergence.png").stat().st_size > 1000
    found = names["found"]
    assert isinstance(bench.plot.targets(found), Figure)
    assert {"convergence_steps", "targets"} <= set(bench.plot.figures(found))
    with pytest.raises(ValueError, match="nothing to show"):
        bench.plot.tuning(found)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer=adamm", "optimizer=adamm: no such optimizer, did you mean 'adam'"),
        ("optimizer.lrr=1", "optimizer.lrr=1: AdamW\\(params"),
        ("seed=1.5", "seed=1.5: expected a whole number"),
        ("+lr=1", "lr=1: no such key, did you mean optimizer.lr=1"),
        ("optimizer=../x", "optimizer=../x: expected one of"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{words}[^\n]*$"):
        bench.plan(override, "tracker=none")


def test_what_cannot_be_compared_or_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        bench.load_runs(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="none of these runs can be compared"):
        bench.analyse(bench.load_runs(tmp_path))


@pytest.mark.slow
def test_importing_bench_and_asking_for_help_load_neither_torch_nor_hydra() -> None:
    code = "import sys, bench; sys.argv[1:] = ['--help']; from bench.__main__ import main; main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "hydra", "omegaconf", "pandas", "pydantic"}
    assert all(name in dir(bench) and getattr(bench, name).__doc__ for name in bench.__all__)
