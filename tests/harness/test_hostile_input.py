"""Input that attacks: one line and exit code 2, nothing executed, nothing written where it does not belong."""

import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.analysis.load import load
from bench.check.__main__ import main as check_main
from bench.errors import ConfigError, one_line, shorten
from bench.jobs.calibration import Calibration
from bench.jobs.job import run_job
from bench.jobs.plan import Plan, make_plan
from bench.report.__main__ import main as report_main
from tasks.cifar_archive import ADMITTED, parse_batch
from tasks.corpora import load_corpus
from tests.marks import quick_for

Mapping = Callable[..., dict[str, Any]]
MakePlan = Callable[..., Plan]
Command = Callable[[Sequence[str]], str]
TINY = ["task=rosenbrock", "task.steps=2", "task.eval_every=1"]
NINES = "9" * 400
ATTACKS = {
    # names and paths
    "sweep=lr sweep.name=../x": "sweep.name=../x: expected a name",
    "optimizer.name='<script>alert(1)</script>'": "optimizer.name=<script>alert(1)</script>: expected a name",
    "optimizer=../task/mlp": "optimizer=../task/mlp: expected one of adafactor, ",
    "sweep=/etc/passwd": "sweep=/etc/passwd: expected one of ",
    "+sweep.axes.results_dir=[../x]": "sweep.axes.results_dir=…: no such key",
    "+sweep.axes.optimizer.name=[../x]": "optimizer.name=../x: expected a name",
    "+sweep.axes.optimizer.name.a=[1]": "sweep.axes.optimizer.name.a=…: ",
    "+sweep.axes.optimizer.betas.7=[1]": "sweep.axes.optimizer.betas.7=…: ",
    "results_dir=": "results_dir=: expected the path of a folder",
    # absurd sizes
    f"seed={'9' * 5000}": "cannot be read: ValueError: Exceeds the limit",
    f"optimizer.betas={'[' * 900}{']' * 900}": "cannot be read: nested too deeply",
    f"{'x' * 3000}=1": "cannot be read: OSError",
    "+sweep.axes.optimizer.lr=[logspace,1e-4,1,1000000000]": "expected 1 to 100,000 values",
    f"+sweep.axes.seed=[range,0,{NINES}]": "expected a number of at most 64 bits",
    # numbers that are none
    "+sweep.axes.optimizer.lr=[linspace,-1e308,1e308,5]": "all finite",
    # what is not what it should be
    "task._target_=torch.nn.Linear ~task.width ~task.batch_size ~task.split_seed +task.in_features=1 "
    "+task.out_features=1": "expected a class with the methods of tasks.base.Task",
    "schedule._target_=os.kill ~schedule.warmup_fraction ~schedule.final_factor": "kill(pid, signal, /) has no such",
    "schedule._target_=os.truncate ~schedule.warmup_fraction ~schedule.final_factor": "has no such option",
    "optimizer=null": "optimizer=null: expected one of ",
    "task=3": "task=3: expected one of ",
    "seed=${seed}": "Recursive interpolation detected",
    "optimizer.name=\x1b[31mred": "optimizer.name=\\x1b[31mred",
    "optimizer.name=\udcff": "optimizer.name=\\udcff",
}
HOSTILE_VALUES = {  # of keys that there are
    "task.name=../../x": "task.name=../../x: expected a name",
    "schedule.name=../../x": "schedule.name=../../x: expected a name",
    f"seed={NINES}": "expected a number of at most 64 bits",
    f"clip_norm={NINES}": "expected a number of at most 64 bits",
    f"task.batch_size={NINES}": "expected a number of at most 64 bits",
    f"optimizer.betas={'[' * 60}{']' * 60}": "nested more than 16 deep",
    f"optimizer.lr=[{','.join('1' * 1100)}]": "expected at most 1,000 values in all",
    f"optimizer.paper={'x' * 10_001}": "expected printable text of at most 10,000 characters",
    f"optimizer._target_={'x' * 5000}": "cannot be imported",
    "pack_size=1000000": "from 1 to 65,536",
    "task.steps=1000000000": "from 1 to 100,000,000",
    "sweep=search sweep.search.num_trials=1000000000000": "from 1 to 100,000",
    "task=quadratic task.rows=4096 task.columns=4096 task.noise=1.0": "are too many to add noise",
    "optimizer=sgd optimizer.lr=nan": "optimizer.lr=nan: expected a finite number",
    "optimizer=sgd optimizer.lr=true": "optimizer.lr=True: expected a finite number",
    "optimizer=sgd optimizer.momentum=inf": "optimizer.momentum=inf: expected a finite number",
    "schedule.warmup_fraction=true": "schedule.warmup_fraction=True: expected a number from 0 to 1",
    "timeout=inf": "timeout=inf: expected a finite number",
    "task.batch_size=true": "task.batch_size=True: expected an integer",
    "sweep.fresh_seeds=[x]": "sweep.fresh_seeds=['x']: expected a list of whole numbers",
    "sweep.fresh_seeds=[7,7]": "expected each seed once",
    "sweep.optional=[[1]]": "sweep.optional=[[1]]: expected a list of axes",
    "task._target_=math.pi": "task._target_=math.pi: expected a class or a function",
    "tracker=wandb tracker.entity=[1]": "tracker.entity=[1]: expected a name or null",
}
YAMLS = {
    "infinite": (
        b"name: infinite\n_target_: torch.optim.SGD\nlr: 0.1\nforeach: .inf\n",
        "optimizer.foreach=inf: expected a finite number",
    ),
    "runs_code": (b"name: x\n_target_: !!python/object/apply:os.system ['touch executed']\n", "could not determine a"),
    "broken": (b"name: [\n", "broken.yaml cannot be read: ParserError"),
    "twice": (b"name: a\nname: b\n", "found duplicate key name"),
    "latin": (b"name: \xff\xfe\n", "latin.yaml cannot be read: UnicodeDecodeError"),
    "list": (b"[1, 2]", "optimizer=[1, 2]: expected a mapping"),
    "number": (b"3", "number.yaml cannot be read"),
    "deep": (b"name: x\nlr: " + b"[" * 500 + b"]" * 500, "deep.yaml cannot be read: nested too deeply"),
    "keys": (b"name: x\n_target_: optimizers.adam.Adam\n1: 2\n", "optimizer=1: expected keys of printable text"),
    "rests": (b"name: x\n_target_: a.B\nrest: " + b"{rest: " * 20 + b"1" + b"}" * 20, "nested more than 16 deep"),
    "no_space": (
        b"name: x\n_target_: optimizers.adam.Adam\nsearch_space: [1]\n",
        "expected a mapping of keys to values",
    ),
    "no_key": (
        b"name: x\n_target_: optimizers.adam.Adam\nsearch_space: {a.b: {low: 0, high: 1, scale: linear}}\n",
        "there is nothing by this name to sweep",
    ),
}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line that must end with code 2, one line and no new file, and returns that line."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(args: Sequence[str]) -> str:
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["bench", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert ended.value.code == 2
        assert out == ""
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert err[:-1].isprintable()
        assert len(err) < 1100
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return run


@pytest.mark.parametrize("attack", quick_for(list(ATTACKS)[::4], ATTACKS), ids=lambda attack: shorten(attack, 60))
def test_an_attack_on_the_command_line_is_one_line(attack: str, command: Command) -> None:
    assert ATTACKS[attack] in command(attack.split())


@pytest.mark.parametrize("attack", HOSTILE_VALUES, ids=lambda attack: shorten(attack, 60))
def test_a_hostile_value_is_one_line(attack: str, refusal: Callable[[str], str]) -> None:
    assert HOSTILE_VALUES[attack] in refusal(attack)


@pytest.mark.parametrize("name", YAMLS)
def test_a_hostile_yaml_is_one_line_and_executes_nothing(name: str, command: Command, tmp_path: Path) -> None:
    content, words = YAMLS[name]
    (tmp_path / "conf" / "optimizer").mkdir(parents=True)
    (tmp_path / "conf" / "optimizer" / f"{name}.yaml").write_bytes(content)
    assert words in command([f"--config-dir={tmp_path / 'conf'}", *TINY, f"optimizer={name}", "sweep=search"])


def test_a_sweep_over_values_that_undo_each_other_is_refused(mapping: Mapping) -> None:
    composed = mapping(*TINY)
    composed["sweep"]["axes"] = {"optimizer.betas": [[0.9]], "optimizer.betas.1": [0.99]}
    with pytest.raises(ConfigError, match=r"^optimizer\.betas\.1=0\.99: there is nothing by this name to sweep$"):
        make_plan(composed)


@pytest.mark.slow
def test_a_huge_grid_is_refused_before_it_takes_memory(mapping: Mapping) -> None:
    composed = mapping(*TINY)
    composed["sweep"]["axes"] = {f"axis{number}": ["range", 0, 99_000] for number in range(200)}
    tracemalloc.start()
    with pytest.raises(ConfigError, match="at most 100,000 cells"):
        make_plan(composed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 2**20


def test_an_error_is_short_whatever_the_value() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (10**5000, deep, [0] * 10**6, "x" * 10**6, "\x1b\n" * 1000):
        text = str(ConfigError("key" * 1000, value, "allowed " * 1000))
        assert len(text) <= 1000
        assert text.isprintable()
    assert one_line("a\n\tb\x1b") == "a b\\x1b"


def strange_documents(run: dict[str, Any]) -> dict[str, bytes]:
    """What somebody may have written in place of a stored run."""
    summary = run["summary"]
    documents = {
        "list": [],
        "no summary": {**run, "summary": None},
        "figures missing": {**run, "summary": {}},
        "text for a number": {**run, "summary": {**summary, "best_val_loss": "<b>"}},
        "NaN": {**run, "summary": {**summary, "final_val_loss": float("nan")}},
        "huge": {**run, "summary": {**summary, "train_seconds": 10**400}},
        "number for a text": {**run, "summary": {**summary, "message": 3}},
        "too large": {**run, "padding": "x" * 5 * 2**20},
    }
    texts = {"deep": b"[" * 100_000, "digits": b'{"schema_version": ' + b"9" * 5000 + b"}", "not UTF-8": b"\xff"}
    return {name: json.dumps(document).encode() for name, document in documents.items()} | texts


def test_a_run_that_somebody_else_wrote_is_trained_again(mapping: Mapping, plan: MakePlan) -> None:
    run_job(mapping(*TINY))
    (trial,) = (made := plan(*TINY)).trials
    file = trial.folder(made.session.results_dir) / "run.json"
    run = json.loads(file.read_text())
    for name, content in strange_documents(run).items():
        file.write_bytes(content)
        assert not plan(*TINY).finished, name
    file.unlink()
    os.mkfifo(file)  # whoever opens it waits
    assert not plan(*TINY).finished
    file.unlink()
    file.write_text(json.dumps({**run, "config": HTML, "sweep": HTML, "seed": HTML}))
    assert run_job(mapping(*TINY)) == run["summary"]["final_val_loss"]  # what it computes is the plan's, not the file's


HTML = "<script>alert(1)</script>"


@pytest.mark.parametrize("content", ["[]", '{"seconds": -1}', '{"a": 1}', "[" * 100_000, "NaN", '{"seconds": "1"}'])
def test_a_measurement_that_somebody_else_wrote_is_taken_again(plan: MakePlan, tmp_path: Path, content: str) -> None:
    made = plan(*TINY)
    calibration, task = Calibration(tmp_path / "measured"), made.tasks.get(made.trials[0].config.task, "cpu")
    measured = calibration.step_cost(task, made.trials[0])
    (file,) = (tmp_path / "measured").iterdir()
    assert calibration.step_cost(task, made.trials[0]) == measured
    file.write_text(content)
    assert calibration.step_cost(task, made.trials[0]).seconds > 0
    assert file.read_text() != content


def test_pipes_and_devices_in_run_folders_are_named_and_not_opened(tmp_path: Path) -> None:
    for name in ("pipe", "device", "folder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.parquet").touch()
    os.mkfifo(tmp_path / "pipe" / "run.json")
    (tmp_path / "device" / "run.json").symlink_to("/dev/zero")
    (tmp_path / "folder" / "run.json").mkdir()
    problems = load([tmp_path]).problems
    assert problems["problem"].tolist() == ["run.json is not a plain file"] * 3


def test_a_corpus_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 2**40)  # takes no space on the disk
    with pytest.raises(ValueError, match=r"has 1099511627776 bytes: give a text of at most"):
        load_corpus("text", str(tmp_path / "huge"))
    with pytest.raises(ValueError, match="path='/dev/zero': does not exist"):
        load_corpus("text", "/dev/zero")


def test_a_pickle_cannot_change_what_it_is_read_with() -> None:
    state = b"(N}S'__defaults__'\n(S'changed'\nS''\ntst"
    with pytest.raises(ValueError, match="it changes what it should only call"):
        parse_batch(b"c_codecs\nencode\n" + state + b"b.", "batch")
    assert ADMITTED["_codecs", "encode"]() == ""


def test_what_a_pickle_names_is_told_short_and_printable() -> None:
    with pytest.raises(ValueError, match=r"^batch is no CIFAR-10 batch: it asks for ") as caught:
        parse_batch(b"c\x1b[31m" + b"x" * 100_000 + b"\nname\n.", "batch")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["optimizer=../x"], "optimizer=../x: expected one of"),
        (["optimizer=sgd", "optimizer.lr=nan"], "optimizer.lr=nan: expected a finite number"),
        (["optimizer=null"], "optimizer=null: expected one of"),
        (["optimizer=sgd", f"optimizer.lr={'9' * 5000}"], "cannot be read"),
    ],
)
def test_the_checks_tell_an_attack_in_one_line(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_main(args) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err[:-1].isprintable()


def test_the_report_tells_a_hostile_path_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_main([str(tmp_path / "no\nsuch\x1b[31m")]) == 2
    assert capsys.readouterr().err[:-1].isprintable()
