"""Packs on a Dask cluster of two workers on this machine."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from bench.errors import ConfigError
from bench.judge.__main__ import main as judge
from tests.processes import Command
from tests.results import losses

Start = Callable[..., Command]
dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.slow
MLP = ["task=mlp", "task.batch_size=16", "task.width=16", "task.eval_every=500", "device=cpu"]
SEEDS = ["sweep=seeds", "sweep.axes.seed=[range,0,6]", "pack_size=3"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": logging.ERROR}
    forkserver.ensure_running()  # ours, which has torch: Dask would start one without
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.LocalCluster(n_workers=2, **options) as cluster,
    ):
        yield cluster


@pytest.fixture
def address(cluster: Any) -> str:
    cluster.wait_for_workers(2, timeout=60)  # one that was killed is started again
    address: str = cluster.scheduler_address
    return address


def wait_for(find: Callable[[], list[Path]], count: int) -> list[Path]:
    deadline = time.monotonic() + 90
    while len(found := find()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_a_killed_worker_costs_its_pack_which_another_trains(address: str, start: Start, tmp_path: Path) -> None:
    train = partial(start, "bench", *MLP, "task.steps=500", *SEEDS, "tracker=none")
    there = train("results_dir=there", f"workers={address}")
    claims = wait_for(lambda: list(tmp_path.glob("there/.claims/*.json")), 2)
    os.kill(int(claims[0].name.rsplit("-", 2)[1]), signal.SIGKILL)
    done = there.finish()
    assert done.returncode == 0, done.stderr
    assert "2 packs of 3 trials, 2 side by side" in done.stdout
    assert train("results_dir=here").finish().returncode == 0
    assert len(losses(tmp_path / "there")) == 6
    assert losses(tmp_path / "there") == losses(tmp_path / "here")


def test_a_stop_reaches_the_cluster_and_leaves_checkpoints(address: str, start: Start, tmp_path: Path) -> None:
    args = [*MLP, "task.steps=100000", *SEEDS, "tracker=none", "results_dir=out", f"workers={address}"]
    process = start("bench", *args)
    wait_for(lambda: list(tmp_path.glob("out/.claims/*.json")), 2)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    done = process.finish()
    assert done.returncode == 143, done.stderr
    assert "stopped: 0 of 6 trials finished" in done.stderr
    assert len(list(tmp_path.glob("out/.checkpoints/*.ckpt"))) == 2


def test_the_judge_has_its_searches_trained_there(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ["optimizer=lion", *MLP, "task.steps=10", "pack_size=3", "report=false", "minutes=1e-6"]  # the first look
    assert judge([*args, f"results_dir={tmp_path / 'here'}"]) == 0
    monkeypatch.setattr("bench.jobs.runner.train", None)  # of this process, not of the cluster's
    assert judge([*args, f"results_dir={tmp_path / 'there'}", f"workers={address}"]) == 0
    here, there = ((tmp_path / folder / "verdict.json").read_bytes() for folder in ("here", "there"))
    assert here == there


def test_an_address_where_nobody_answers_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.jobs.cluster.CONNECT_SECONDS", 0.5)
    from bench.jobs.cluster import count_workers

    with pytest.raises(ConfigError, match=r"^workers=tcp://127\.0\.0\.1:9: no Dask scheduler with a worker answers"):
        count_workers("tcp://127.0.0.1:9")
