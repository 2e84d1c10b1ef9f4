"""wandb mirrors losses and timings offline, and its failures never reach the training."""

import json
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.errors import ConfigError
from bench.jobs import tracker
from bench.jobs.job import run_job
from bench.jobs.tracker import wandb_mode

Mapping = Callable[..., dict[str, Any]]
Small = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def _logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def log_records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, behind wandb's own header of 7 bytes."""
    block, position, parts = 32768, 7, b""
    while position + 7 <= len(content):
        if block - position % block < 7:
            position += block - position % block
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a full record, or the last part of one
            yield parts
            parts = b""


def read_offline_run(folder: Path) -> list[dict[str, Any]]:
    """The history rows of the one wandb run below a folder."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.rglob("offline-run-*/*.wandb")
    rows: list[dict[str, Any]] = []
    for data in log_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = record.history.item
            rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


@pytest.mark.parametrize("sweep", ["none", "seeds"])
def test_an_offline_run_holds_losses_and_timings(mapping: Mapping, small: Small, sweep: str) -> None:
    composed = mapping(*small("mlp"), "task.steps=20", "task.eval_every=10", "tracker=wandb", f"sweep={sweep}")
    run_job(composed)
    folder = next(Path(composed["results_dir"]).rglob("run.json")).parent
    rows = read_offline_run(folder)
    assert [row["_step"] for row in rows] == [0, 10, 20]
    assert {"train_loss", "val_loss", "lr", "step_seconds", "optimizer_seconds"} <= set(rows[-1])


def test_one_run_per_sweep_holds_a_table_of_its_trials(mapping: Mapping, small: Small) -> None:
    composed = mapping(*small("mlp"), "task.steps=5", "tracker=wandb", "tracker.runs=sweep", "sweep=seeds")
    run_job(composed)
    (row,) = read_offline_run(Path(composed["results_dir"]))
    assert any(key.startswith("trials.") for key in row)


def test_a_failing_wandb_does_not_fail_the_training(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    monkeypatch.setattr(wandb, "init", lambda **options: 1 / 0)
    composed = mapping(*small("mlp"), "task.steps=5", "tracker=wandb")
    assert run_job(composed) < 10
    assert "wandb failed and is left out" in caplog.text


@pytest.mark.parametrize("server", ["refuses", "is silent"])
def test_a_server_that_does_not_answer_costs_one_timeout_and_no_data(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, server: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # accepts connections and never says a word
        port = listening.getsockname()[1]
        if server == "refuses":
            listening.close()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        monkeypatch.setattr(tracker, "TIMEOUT", 3.0)
        composed = mapping(*small("mlp"), "task.steps=20", "task.eval_every=10", "tracker=wandb", "sweep=seeds")
        run_job(composed)
    folders = [path.parent for path in Path(composed["results_dir"]).rglob("run.json")]
    assert [len(read_offline_run(folder)) for folder in folders] == [3] * 5
    assert caplog.text.count("does not answer") == 1


def test_a_key_or_a_login_means_online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_mode() == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret")
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode() == "disabled"


def test_without_wandb_installed_only_asking_for_it_is_a_mistake(
    mapping: Mapping, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    run_job(mapping(*small("mlp"), "task.steps=5", "tracker=none"))
    with pytest.raises(ConfigError, match="tracker=wandb: not installed"):
        run_job(mapping(*small("mlp"), "task.steps=6", "tracker=wandb"))
