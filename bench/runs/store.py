"""Runs on disk: one folder per trial, written to a temporary name and renamed, so that a final name means complete."""

import hashlib
import json
import logging
import math
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.files import METRICS_FILE, RUN_FILE, read_json, set_aside, told_in_one_line, write_durably
from bench.runs.environment import describe_environment
from bench.runs.schema import SCHEMA_VERSION, is_summary
from bench.runs.trial import Trial
from bench.training.record import FINISHED, Record, Row

log = logging.getLogger(__name__)
REQUIRED_KEYS = {"schema_version", "run_id", "status", "summary"}
LEADING_COLUMNS = ("step", "train_loss", "val_loss", "lr", "train_seconds", "elapsed_seconds")


class Store:
    """The runs below `results_dir`.

    Raises:
        StoreError: from every method that writes, if the folder cannot be written.
    """

    def __init__(self, results_dir: Path) -> None:
        self.results_dir = results_dir

    def find_finished(self, trial: Trial) -> dict[str, Any] | None:
        """What stands in `run.json` of the trial, and its `folder`, if it is stored, whole and finished."""
        folder = trial.folder(self.results_dir)
        run = _read_whole(folder)
        if run is None or (run["schema_version"], run["run_id"]) != (SCHEMA_VERSION, trial.run_id):
            return None
        return {**run, **_describe_trial(trial), "folder": str(folder)} if run["status"] in FINISHED else None

    def check_writable(self) -> None:
        """Raises StoreError now rather than after hours of training."""
        with told_in_one_line(self.results_dir):
            self.results_dir.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.results_dir).close()

    @contextmanager
    def draft(self, trial: Trial) -> Iterator[Path]:
        """A temporary folder beside the run's final one; what is in it becomes the run when `save` renames it."""
        final = trial.folder(self.results_dir)
        draft = _temporary(final)
        with told_in_one_line(self.results_dir):
            draft.mkdir(parents=True)
            _remove_abandoned(final)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def save(self, trial: Trial, record: Record, draft: Path) -> dict[str, Any]:
        """Write the run into `draft`, give it its final name, and return its `run.json` and its `folder`."""
        with told_in_one_line(self.results_dir):
            draft.mkdir(parents=True, exist_ok=True)  # somebody may have removed results_dir meanwhile
            _write_metrics(draft / METRICS_FILE, record.rows)
            run = _describe(trial, record, _sha256(draft / METRICS_FILE))
            write_durably(draft / RUN_FILE, json.dumps(run, indent=1, allow_nan=False).encode())
            _replace(draft, trial.folder(self.results_dir))
        return {**run, "folder": str(trial.folder(self.results_dir))}


def _describe(trial: Trial, record: Record, metrics_checksum: str) -> dict[str, Any]:
    run = {
        "schema_version": SCHEMA_VERSION,
        "run_id": trial.run_id,
        "status": record.status,
        **_describe_trial(trial),
        "summary": record.summary(),
        "pack": {"size": record.pack_size, "shared_timing": record.pack_size > 1},
        "environment": describe_environment(trial.config.device),
        "files": {METRICS_FILE: metrics_checksum},
    }
    finite: dict[str, Any] = _without_non_finite(run)
    return finite


def _describe_trial(trial: Trial) -> dict[str, Any]:
    return {
        "seed": trial.config.seed,
        "config": trial.config.mapping,
        "fingerprint": trial.fingerprint,
        "sweep": None if trial.sweep is None else {"name": trial.sweep, "cell": dict(trial.cell)},
    }


def _without_non_finite(value: Any) -> Any:
    """The same with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _without_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_metrics(path: Path, rows: list[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [*LEADING_COLUMNS, *sorted({name for row in rows for name in row} - set(LEADING_COLUMNS))]
    columns = {name: pa.array([row.get(name, math.nan) for row in rows], pa.float64()) for name in names}
    columns["step"] = pa.array([int(row["step"]) for row in rows], pa.int64())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    write_durably(path, sink.getvalue().to_pybytes())


def _replace(draft: Path, final: Path) -> None:
    """Rename `draft` to `final`. What stood there is removed afterwards or, where it was damaged, set aside."""
    try:
        os.rename(draft, final)
    except OSError:
        if _read_whole(final) is None:
            log.warning("%s was damaged: set aside as %s, and trained again", final, set_aside(final))
            os.rename(draft, final)
            return
        old = _temporary(final)
        os.rename(final, old)
        os.rename(draft, final)
        shutil.rmtree(old, ignore_errors=True)


def _read_whole(folder: Path) -> dict[str, Any] | None:
    """What stands in `run.json`, if it can be read and the metrics are the ones that were written with it."""
    try:
        run: dict[str, Any] = read_json(folder / RUN_FILE)
        whole = run.keys() >= REQUIRED_KEYS and is_summary(run["summary"])
        whole = whole and _sha256(folder / METRICS_FILE) == run["files"][METRICS_FILE]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return run if whole else None


def _temporary(final: Path) -> Path:
    """A name beside `final` that tells the process that works on it."""
    return final.with_name(f".{final.name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")


def _remove_abandoned(final: Path) -> None:
    """Remove what processes of this machine that are no more have left behind of the same run."""
    for folder in final.parent.glob(f".{final.name}.{socket.gethostname()}.*.tmp"):
        try:
            os.kill(int(folder.name.split(".")[-3]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            continue


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
