"""What a user meets on the command line: help, one line per mistake, exit codes, signals."""

import importlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

import bench
from bench.__main__ import main
from bench.cli.compose import compose, resolve
from bench.cli.folders import GROUPS
from bench.cli.help import COMMANDS
from bench.config.folders import find_conf_dir
from bench.config.targets import locate
from bench.errors import ConfigError
from tests.harness.conftest import configure
from tests.processes import TRAINING_STEP, Command, at_call

Small = Callable[[str], list[str]]
MISTAKES = {
    "optimizer=adamm": "no such optimizer, did you mean 'adam'",
    "optimizer.lrr=1": "optimizer.lrr=1: AdamW(params, lr=0.001",
    "optimizer=madam optimizer.eps=1e-8": "optimizer.eps=1e-8: MAdam(params",
    "+optimizer.bogus=3": "has no such option",
    "optimizer.lr=-1": "optimizer.lr=-1: expected a finite number of at least 0",
    "+schedule.bogus=1": "has no such option",
    "device=tpu": "device=tpu: expected auto, cpu, cuda",
    "foce=true": "did you mean 'force'",
    "+foo=3": "foo=3: no such key",
    "lr=0.1": "lr=0.1: no such key, did you mean optimizer.lr=0.1?",
    "steps=100": "steps=100: no such key, did you mean task.steps=100?",
    "+lr=1": "lr=1: no such key, did you mean optimizer.lr=1?",
    "+steps=100": "steps=100: no such key, did you mean task.steps=100?",
    "seeds=5": "seeds=5: no such key, did you mean sweep=seeds?",
    "wandb.project=x": "did you mean tracker.project=x?",
    "batch_sizes=4": "did you mean task.batch_size=4?",
    "optimizer=sgd optimizer.dampening=0.1": "takes it: write +optimizer.dampening=0.1",
    "seed=0,1": "or write '+sweep.axes.seed=[0,1]' for a sweep",
    "optimizer=adam,adamw": "optimizer=adam,adamw: several values: add -m to train a job for each value of optimizer",
    "optimizer.lr=0.1,0.2": "add -m to train a job for each value of optimizer.lr, or write optimizer.lr=[0.1,0.2]",
    "task.path=/a=b": """task.path=/a=b: cannot be read; quote the value: 'task.path="/a=b"'""",
    "adam": "adam: expected KEY=VALUE",
    "reprot results": "reprot: expected KEY=VALUE, or as the first word one of judge, times, report, check, verify",
    "sweep.search.num_trials=3": "no such key, did you mean sweep=search sweep.search.num_trials=3?",
    "average.decays=[0.9]": "no such key, did you mean average=ema average.decays=[0.9]?",
    "sweep=lr sweep.axes.optimizer.lrr=[1e-3]": "has no such option, did you mean 'lr'?",
    "sweep.axes.lr=[1e-3]": "sweep.axes.lr=[1e-3]: no such key, did you mean optimizer.lr=[1e-3]?",
    "sweep.axes.optimizer.lr=[1e-3]": "write +sweep.axes.optimizer.lr=... to add it",
    "optimizer=sgd sweep.axes.optimizer.dampening=[0.1]": "write +sweep.axes.optimizer.dampening=... to add it",
    "optimizer=torch.optim.RAdam": "optimizer=radam, or optimizer=custom optimizer._target_=torch.optim.RAdam",
    "optimizer=torch.optim.Foo": "the name of a yaml or optimizer=custom optimizer._target_=torch.optim.Foo",
    "optimizer=mine": "for one of your own add --config-dir DIR",
    "--optimizer adam": "--optimizer: no such option; a key is set as optimizer=VALUE, no dashes",
    "--config-dri conf": "--config-dri: no such option, did you mean --config-dir?",
    "--cfg": "argument --cfg/-c: expected one argument",
    "seed=1 -m --cfg job": "expected only one of",
    "optimizer=custom": "optimizer._target_=???: expected a class",
    "optimizer=sam_adamw optimizer.modifiers=[cautious]": "not around a wrapper: write optimizer.base.modifiers",
    "optimizer.grops=[]": "has no such option, did you mean 'groups'?",
    "task.accumulate=1,2": "task.accumulate=1,2: several values: add -m to train a job for each value of task.acc",
    "sweep=lr sweep.axes.optimizer.lr=[-1.0,0.1]": "optimizer.lr=-1.0: expected a finite number of at least 0",
}
WRONG_VALUES = {  # of keys that there are
    "optimizer.lr=nan": "optimizer.lr=nan: expected a finite number",
    "optimizer.betas=[0.9,1.0]": "optimizer.betas[1]=1.0: expected a number in [0, 1)",
    "optimizer=sgd optimizer.momentum=-1": "Invalid momentum value: -1; signature: SGD(params",
    "optimizer._target_=no.such.Class": "optimizer._target_=no.such.Class: cannot be imported",
    "optimizer._target_=math.sqrt": "expected a subclass of torch.optim.Optimizer",
    "task=gpt_nano task.data=text task.path=/nowhere": "task.path",
    "task.steps=0": "task.steps=0: expected a whole number from 1",
    "task.steps=1e12": "task.steps=1000000000000.0: expected a whole number",
    "task.target.mode=best": "task.target.mode=best: expected one of min, max",
    "task.loss_scale=0": "task.loss_scale=0: expected a finite number above 0",
    "schedule.warmup_fraction=2": "schedule.warmup_fraction=2: expected a number from 0 to 1",
    "seed=1.5": "seed=1.5: expected a whole number from 0",
    "precision=float8": "precision=float8: expected one of float32, bfloat16, float64",
    "pack_size=0": "pack_size=0: expected auto or a whole number from 1",
    "optimizer.name=../../etc": "optimizer.name=../../etc: expected a name",
    "tracker.runs=pack": "tracker.runs=pack: expected one of trial, sweep",
    "sweep=seeds sweep.axes.seed=[range,0,1e12]": "at most 100,000 values",
}


def run_main(monkeypatch: pytest.MonkeyPatch, folder: Path, args: list[str]) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["bench", *args])
    try:
        main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_exit_code_2_and_nothing_written(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, tmp_path, mistake.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    assert MISTAKES[mistake] in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", WRONG_VALUES)
def test_a_wrong_value_is_one_line(words: str, refusal: Callable[[str], str]) -> None:
    assert WRONG_VALUES[words] in refusal(words)


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "optimizer=adamuon",
            "optimizer.rest.lr=0.1",
            "task=mlp",
            "task.steps=7",
            "sweep=seeds",
            "sweep.axes.seed=[3]",
        ],
        ["optimizer=sgd", "schedule=wsd", "+optimizer.dampening=0.1", "average=lawa", "average.windows=[2,3]"],
        ["experiment=madam_vs_adam", "optimizer=adam", "optimizer.betas=[0.8,0.9]", "optimizer.groups=[]"],
    ],
)
def test_plans_of_tests_are_of_what_hydra_composes(overrides: list[str]) -> None:
    assert configure(overrides) == resolve(compose(overrides))


def test_an_own_optimizer_whose_folder_is_not_given_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "optimizer").mkdir(parents=True)
    (tmp_path / "conf" / "optimizer" / "mine.yaml").touch()
    assert run_main(monkeypatch, tmp_path, ["optimizer=mine"]) == 2
    assert (
        "conf/optimizer/mine.yaml is there, but its folder is not given: add --config-dir conf"
        in capfd.readouterr().err
    )


def test_a_package_of_an_extra_is_refused_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = ["torch>=2", "absent-package>=1; extra == 'integrations'"]
    monkeypatch.setattr("bench.config.targets.requires", lambda name: requirements)
    with pytest.raises(ConfigError, match=r"; in .*, pip install -c constraints.txt -e '\.\[integrations\]'$"):
        locate("absent_package.Thing", "optimizer._target_")


def test_an_own_module_that_lies_beside_another_folders_conf_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    (home / "conf" / "optimizer").mkdir(parents=True)
    (home / "conf" / "optimizer" / "far.yaml").write_text("name: far\n_target_: optimizers.far_away.Far\n")
    (tmp_path / "here").mkdir()
    args = ["--config-dir", "../home/conf", "optimizer=far", "tracker=none"]
    searched = "No module named 'optimizers.far_away'; modules of your own are looked for in the current folder only"
    assert run_main(monkeypatch, tmp_path / "here", args) == 2
    assert capfd.readouterr().err.endswith(f"{searched}\n")
    (home / "optimizers").mkdir()
    (home / "optimizers" / "far_away.py").touch()
    assert run_main(monkeypatch, tmp_path / "here", args) == 2
    assert f"{searched}, and optimizers/far_away.py lies in {home}: cd there first" in capfd.readouterr().err


@pytest.mark.parametrize(
    "name", ["tasks.py", "tasks/__init__.py", "optimizers.py", "optimizers/__init__.py", "bench.py"]
)
def test_a_file_that_hides_a_package_of_ours_is_named_before_anything_is_imported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise SystemExit('imported')")
    for args in ([], ["check", "optimizer=adam"]):
        assert run_main(monkeypatch, tmp_path, args) == 2
        assert re.fullmatch(rf"error: {name} hides fairstep's own `\w+`[^\n]+\n", capfd.readouterr().err)


def test_an_own_file_in_place_of_ours_is_used_and_told(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mlp.py").touch()
    assert run_main(monkeypatch, tmp_path, ["dry_run=true", "tracker=none", "task=quadratic"]) == 0
    assert "tasks/mlp.py is used in place of fairstep's own" in caplog.text


def test_options_of_hydra_may_stand_anywhere(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    args = ["optimizer=adam,madam", "-m", *small("quadratic"), "tracker=none", "results_dir=out", "dry_run=true"]
    assert run_main(monkeypatch, tmp_path, args) == 0
    assert capfd.readouterr().out.count("sweep none") == 2


def test_any_class_trains_by_its_path_under_its_own_name(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    args = ["optimizer=custom", "optimizer._target_=torch.optim.NAdam", "+optimizer.lr=0.01", *small("quadratic")]
    assert run_main(monkeypatch, tmp_path, [*args, "task.steps=5", "tracker=none", "results_dir=out"]) == 0
    (run,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "quadratic" / "nadam").rglob("run.json")]
    assert run["config"]["optimizer"] == {"name": "nadam", "_target_": "torch.optim.NAdam", "lr": 0.01}


def test_the_version_and_the_help_of_every_command_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, tmp_path, ["--version"]) == 0
    assert capfd.readouterr().out == f"fairstep {bench.__version__}\n"
    for command in COMMANDS:
        assert run_main(monkeypatch, tmp_path, [command, "--help"]) == 0
        assert capfd.readouterr().out.startswith(f"usage: python -m bench.{command}")


INTERRUPTED = {
    "check": ("bench.check.__main__.run_checks", "optimizer=lion"),
    "judge": ("bench.judge.__main__._judge", "optimizer=lion"),
    "report": ("bench.report.write.write_report", "results"),
    "times": ("bench.times.__main__._measure", "optimizer=lion"),
    "verify": ("bench.verify.verify.verify", "results"),
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_ctrl_c_is_one_line_of_every_command(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    place, argument = INTERRUPTED[name]
    monkeypatch.setattr(place, interrupt)
    assert importlib.import_module(f"bench.{name}.__main__").main([argument]) == 130
    assert capsys.readouterr().err == "error: stopped at once\n"


@pytest.mark.slow
def test_help_that_nobody_reads_to_its_end_leaves_no_traceback(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_an_axis_that_an_optimizer_lacks_falls_away_and_is_told(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    args = ["optimizer=lion", "sweep=epsilon", *small("quadratic"), "task.steps=5", "tracker=none", "results_dir=out"]
    assert run_main(monkeypatch, tmp_path, args) == 0
    assert "optimizer.eps: not applicable to lion" in capfd.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, tmp_path, ["device=cuda"]) == 2
    assert "use device=cpu" in capfd.readouterr().err


def test_help_lists_every_member_of_every_group_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, tmp_path, ["--help"]) == 0
    out = capfd.readouterr().out
    for group in GROUPS:
        for file in (find_conf_dir() / group).glob("*.yaml"):
            assert re.search(rf"^  {re.escape(file.stem)} +\S+", out, re.MULTILINE), file


def test_a_dry_run_prints_the_plan_and_trains_nothing(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    args = [*small("mlp"), "optimizer=madam", "sweep=lr_eps", "dry_run=true", "tracker=none", "results_dir=out"]
    assert run_main(monkeypatch, tmp_path, args) == 0
    out = capfd.readouterr().out
    assert "7 cells" in out
    assert "optimizer.eps: not applicable to madam" in out
    assert not list(tmp_path.rglob("run.json"))


def test_multirun_multiplies_optimizers_and_sweeps(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    args = ["-m", "optimizer=adam,madam", *small("quadratic"), "sweep=lr", "tracker=none", "results_dir=out"]
    assert run_main(monkeypatch, tmp_path, args) == 0
    runs = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("run.json")]
    assert sorted(run["config"]["optimizer"]["name"] for run in runs) == ["adam"] * 7 + ["madam"] * 7
    assert "sits on the" in capfd.readouterr().out


@pytest.mark.parametrize(
    "key", ["optimizer.groups=[{match: head.*, lr: 0.5}]", "optimizer.modifiers=[cautious]", "task.accumulate=2",
            "task.spike={step: 3, factor: 10}"],
)  # fmt: skip
def test_keys_that_every_optimizer_and_task_has_need_no_plus(
    key: str, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    args = [*small("mlp"), "task.steps=4", "tracker=none", "results_dir=out"]
    for text in (key, f"+{key}"):
        assert run_main(monkeypatch, tmp_path, [*args, text]) == 0
    assert "stored before" in capfd.readouterr().out, "with a plus and without, it is one and the same run"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.slow
def test_a_signal_leaves_an_interrupted_run_with_what_was_measured(
    small: Small, start: Callable[..., Command], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    interrupt = partial(at_call, TRAINING_STEP, 60, partial(signal.raise_signal, number))
    done = start("bench", *small("mlp"), "tracker=none", "results_dir=out", before=interrupt).finish()
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "", "a table of what was not trained"
    assert "stopped: 0 of 1 trial finished; the same command goes on from here" in done.stderr
    (run,) = [json.loads(path.read_text()) for path in tmp_path.rglob("run.json")]
    assert run["status"] == "interrupted"
    assert run["summary"]["num_steps"] == 50, "those of the last evaluation"
    assert not list(tmp_path.rglob("*.tmp"))
