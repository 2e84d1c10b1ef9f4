"""Faults of the machine, provoked for real, each with its outcome and a message that says what was kept."""

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench.training.interrupt import StopSignal
from tests.processes import TRAINING_STEP, Command, at_call
from tests.results import losses, stored

pytestmark = pytest.mark.slow
Small = Callable[[str], list[str]]
Train = Callable[..., Command]
SEEDS = ["sweep=seeds", "sweep.axes.seed=[0,1,2,3]", "pack_size=2"]


@pytest.fixture
def train(start: Callable[..., Command]) -> Callable[..., Command]:
    """`train("task=mlp", ...)` is this training in a process of its own, in the test's folder."""
    return partial(start, "bench", "tracker=none")


def finish(process: Command, code: int = 0) -> str:
    """What the process has told on stderr, once it ends with this exit code and without a traceback."""
    done = process.finish()
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"{pattern} never came"
        time.sleep(0.02)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`mount("size=1m")` puts a file system of its own at tmp_path/disk, over what stood there."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def run(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this machine lets nobody mount a file system")
        return disk

    yield run
    while os.path.ismount(disk):
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_ends_the_job_in_one_line_and_the_same_command_goes_on(
    small: Small, train: Train, tmp_path: Path, mount: Callable[[str], Path]
) -> None:
    disk = mount("size=64k")
    args = [*small("mlp"), "task.steps=50", "task.eval_every=1", *SEEDS, "results_dir=disk/out"]
    told = finish(train(*args), 2)
    assert "error: results_dir=disk/out: cannot be written: No space left on device; " in told
    num_stored = len(stored(disk / "out"))
    assert f"; {num_stored} of 4 trials stored; the same command goes on from there" in told
    mount("remount,size=16m")
    finish(train(*args))
    finish(train(*args[:-1], "results_dir=calm"))
    assert losses(disk / "out") == losses(tmp_path / "calm")


def test_a_checkpoint_that_does_not_fit_on_the_disk_costs_a_warning(
    small: Small, train: Train, tmp_path: Path, mount: Callable[[str], Path]
) -> None:
    disk = mount("size=1m")
    args = [*small("mlp"), "task.width=512", "task.steps=60", "checkpoint_every=25", "results_dir=disk/out"]
    told = finish(train(*args))
    assert told.count("this checkpoint could not be written (No space left on device); there is none before it") == 2
    assert [run["status"] for run in stored(disk / "out").values()] == ["completed"]
    assert not list(disk.rglob("*.ckpt")) + list(disk.rglob("*.tmp"))


@pytest.fixture
def paused(train: Train, tmp_path: Path) -> Train:
    """A training that has begun and goes on once there is a file `go`."""
    return partial(train, before=partial(at_call, TRAINING_STEP, 5, partial(wait_for, tmp_path, "go")))


def test_a_results_folder_that_becomes_read_only_ends_the_job_in_one_line(
    small: Small, train: Train, paused: Train, tmp_path: Path, mount: Callable[[str], Path]
) -> None:
    mount("size=16m")
    args = [*small("mlp"), *SEEDS, "results_dir=disk/out"]
    process = paused(*args)
    wait_for(tmp_path, "disk/out/.claims/*.json")
    mount("ro")
    (tmp_path / "go").touch()
    told = finish(process, 2)
    assert "error: results_dir=disk/out: cannot be written: Read-only file system" in told
    assert "Read-only file system" in finish(train(*args), 2), "and the next one before it trains"


def test_a_results_folder_removed_during_the_training_comes_back_with_the_run(
    small: Small, paused: Train, tmp_path: Path
) -> None:
    process = paused(*small("mlp"), "results_dir=out")
    wait_for(tmp_path, "out/mlp/adamw/*.tmp")
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "go").touch()
    finish(process)
    assert [run["status"] for run in stored(tmp_path / "out").values()] == ["completed"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_and_the_same_command_goes_on_from_it(
    small: Small, train: Train, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    args = [*small("mlp"), *SEEDS, "pack_size=4"]
    interrupt = partial(at_call, TRAINING_STEP, 60, partial(signal.raise_signal, number))
    process = train(*args, "results_dir=out", before=interrupt)
    assert "stopped: 0 of 4 trials finished; the same command goes on from here" in finish(process, code)
    assert len(list((tmp_path / "out" / ".checkpoints").glob("*.ckpt"))) == 1
    assert "4 trials go on from step 60 of 100" in finish(train(*args, "results_dir=out"))
    assert not list((tmp_path / "out" / ".checkpoints").iterdir())
    finish(train(*args, "results_dir=calm"))
    assert losses(tmp_path / "out") == losses(tmp_path / "calm")
    assert {run["status"] for run in stored(tmp_path / "out").values()} == {"completed"}


def test_a_second_interrupt_stops_at_once() -> None:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_before_the_training_is_one_line(small: Small, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", *small("mlp"), "results_dir=out"]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background ignores it, and so its children
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    deadline = time.monotonic() + 60
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told.strip()) == (130, "error: stopped at once")
    assert not (tmp_path / "out").exists()


def wait_until_it_waits(process: Command) -> None:
    wait_for(process.err.parent, "err")
    while process.running and "waiting for trials that another process is training" not in process.err.read_text():
        time.sleep(0.02)


def test_two_processes_on_one_sweep_train_every_trial_once(
    small: Small, train: Train, paused: Train, tmp_path: Path
) -> None:
    args = [*small("mlp"), *SEEDS, "pack_size=4", "results_dir=out"]
    first = paused(*args)
    wait_for(tmp_path, "out/.claims/*.json")
    second = train(*args)
    wait_until_it_waits(second)
    (tmp_path / "go").touch()
    finish(first)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/*/*/run.json")}
    told = finish(second)
    assert len(before) == 4
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/*/*/run.json")} == before
    assert told.count("waiting for trials that another process is training") == 1


def test_two_processes_on_one_sweep_share_its_packs(small: Small, paused: Train, tmp_path: Path) -> None:
    args = [*small("mlp"), "pack_size=4", "sweep=seeds", "sweep.axes.seed=[range,0,16]", "results_dir=out"]
    first = paused(*args)
    wait_for(tmp_path, "out/.claims/*.json")
    second = paused(*args)
    wait_for(tmp_path, f"out/.claims/*-{second.pid}-*.json")
    assert first.running
    claims = [json.loads(path.read_text()) for path in tmp_path.glob("out/.claims/*.json")]
    assert [len(claimed) for claimed in claims] == [4, 4]
    assert len({run_id for claimed in claims for run_id in claimed}) == 8
    (tmp_path / "go").touch()
    finish(first)
    finish(second)
    assert [run["status"] for run in stored(tmp_path / "out").values()] == ["completed"] * 16


def test_a_process_takes_over_what_a_killed_one_was_training(
    small: Small, train: Train, paused: Train, tmp_path: Path
) -> None:
    args = [*small("mlp"), *SEEDS, "pack_size=4", "results_dir=out"]
    first = paused(*args)
    wait_for(tmp_path, "out/.claims/*.json")
    second = train(*args)
    wait_until_it_waits(second)
    first.kill()
    finish(second)
    assert [run["status"] for run in stored(tmp_path / "out").values()] == ["completed"] * 4


def test_another_data_file_is_another_trial(small: Small, train: Train, tmp_path: Path) -> None:
    args = [*small("gpt_nano"), "task.steps=20", "results_dir=out"]
    finish(train(*args))
    text = tmp_path / "text.txt"
    text.write_text(text.read_text().replace("lazy", "busy"))
    finish(train(*args))
    runs = stored(tmp_path / "out").values()
    assert len(runs) == len({run["fingerprint"]["data"] for run in runs}) == 2


def turn_the_clock_back() -> None:
    seconds = itertools.count(2e9, -1000.0)
    time.time = lambda: next(seconds)


def test_a_clock_that_goes_backwards_harms_no_measurement(small: Small, train: Train, tmp_path: Path) -> None:
    finish(train(*small("mlp"), "checkpoint_every=20", "results_dir=out", before=turn_the_clock_back))
    (path,) = tmp_path.glob("out/*/*/*/metrics.parquet")
    seconds = pq.read_table(path)["elapsed_seconds"].to_pylist()
    assert seconds == sorted(seconds)
    assert seconds[0] >= 0


def leave_memory(megabytes: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20,) * 2)


@pytest.mark.parametrize(("trials", "width", "megabytes", "code"), [(8, 1500, 450, 0), (2, 6000, 400, 1)])
def test_a_pack_that_does_not_fit_into_memory_is_halved_and_a_single_trial_fails(
    train: Train, tmp_path: Path, trials: int, width: int, megabytes: int, code: int
) -> None:
    wide = ["task=mlp", f"task.width={width}", "task.batch_size=1", "task.steps=2", "optimizer.lr=1e-5"]
    args = [*wide, "sweep=seeds", f"sweep.axes.seed=[range,0,{trials}]", f"pack_size={trials}", "results_dir=out"]
    told = finish(train(*args, before=partial(leave_memory, megabytes)), code)
    assert f"a pack of {trials} trials does not fit into memory: going on with packs of {trials // 2}" in told
    statuses = [run["status"] for run in stored(tmp_path / "out").values()]
    assert statuses == (["failed"] * trials if code else ["completed"] * trials)
