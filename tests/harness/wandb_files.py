"""Reading back what wandb keeps of offline runs: its records, in LevelDB's log format."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class OfflineRun:
    """What `wandb sync` would send of one run."""

    run_id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    project: str = ""
    sweep_id: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    exit_code: int | None = None


def read_offline_runs(folder: Path) -> list[OfflineRun]:
    """Every offline run below a folder, once wandb's service has written all of them to their end."""
    deadline = time.monotonic() + 20
    while True:
        runs = [_read(file) for file in sorted(folder.rglob("offline-run-*/*.wandb"))]
        if all(run.exit_code is not None for run in runs) or time.monotonic() > deadline:
            return runs
        time.sleep(0.05)


def _read(file: Path) -> OfflineRun:
    from wandb.proto import wandb_internal_pb2

    run = OfflineRun()
    for data in _log_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            told = record.run
            run.run_id, run.name, run.group = told.run_id, told.display_name, told.run_group
            run.job_type, run.project, run.sweep_id = told.job_type, told.project, told.sweep_id
            run.tags = list(told.tags)
            run.config |= {item.key: json.loads(item.value_json) for item in told.config.update}
        elif kind == "history":
            run.history.append(_items(record.history.item))
        elif kind == "summary":
            run.summary |= _items(record.summary.update)
        elif kind == "metric":
            run.metrics[record.metric.name or record.metric.glob_name] = record.metric
        elif kind == "artifact":
            run.artifacts.append(f"{record.artifact.type}/{record.artifact.name}")
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _items(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def _log_records(content: bytes) -> Iterator[bytes]:
    """The records, behind wandb's own header of 7 bytes."""
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
