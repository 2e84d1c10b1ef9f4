"""Runs on disk: one folder per trial, written to a temporary name and renamed, so that a final name means complete."""

import hashlib
import logging
import math
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.files import make_folder, os_errors_as_store_error, set_aside, sync_folder, write_durably
from bench.runs.environment import describe_environment
from bench.runs.folders import METRICS_FILE, READ_ERRORS, RUN_FILE, WEIGHTS_FILE, read_run
from bench.runs.schema import SCHEMA_VERSION, PackPlace, Run, SweepPlace
from bench.runs.summary import Summary
from bench.runs.trial import Trial
from bench.runs.weights import encode_weights, find_weight_faults
from bench.training.record import FINISHED, Record, Row

log = logging.getLogger(__name__)
LEADING_COLUMNS = ("step", "train_loss", "val_loss", "lr", "train_seconds", "elapsed_seconds")


class Store:
    """The runs below `results_dir`.

    Raises:
        StoreError: from every method that writes, if the folder cannot be written.
    """

    def __init__(self, results_dir: Path) -> None:
        self.results_dir = results_dir

    def find_finished(self, trial: Trial) -> Run | None:
        """The trial's run, if it is stored, whole and finished; what the run says of the trial is the trial's own."""
        run = _read_whole(trial.folder(self.results_dir))
        if run is None or run.run_id != trial.run_id or run.status not in FINISHED:
            return None
        return run.model_copy(update=_describe_trial(trial))

    def check_writable(self) -> None:
        """Raises StoreError now rather than after hours of training."""
        with os_errors_as_store_error(self.results_dir):
            self.results_dir.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.results_dir).close()

    @contextmanager
    def draft(self, trial: Trial) -> Iterator[Path]:
        """A temporary folder beside the run's final one; what is in it becomes the run when `save` renames it."""
        final = trial.folder(self.results_dir)
        draft = _temporary(final)
        with os_errors_as_store_error(self.results_dir):
            make_folder(final.parent)
            draft.mkdir()
            _remove_abandoned(final)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def save(self, trial: Trial, record: Record, draft: Path) -> Run:
        """Write the run into `draft`, give it its final name, and return it."""
        final = trial.folder(self.results_dir)
        with os_errors_as_store_error(self.results_dir):
            draft.mkdir(parents=True, exist_ok=True)  # somebody may have removed results_dir meanwhile
            _write_metrics(draft / METRICS_FILE, record.rows)
            files = [METRICS_FILE]
            if record.weights is not None:
                write_durably(draft / WEIGHTS_FILE, encode_weights(record.weights))
                files.append(WEIGHTS_FILE)
            run = _describe(trial, record, {name: _sha256(draft / name) for name in files})
            write_durably(draft / RUN_FILE, run.model_dump_json(indent=1).encode())
            sync_folder(draft)
            _replace(draft, final)
        return run.at(final)


def _describe(trial: Trial, record: Record, checksums: Mapping[str, str]) -> Run:
    return Run.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "run_id": trial.run_id,
            "status": record.status,
            **_describe_trial(trial),
            "summary": Summary.from_record(record),
            "pack": PackPlace(size=record.pack_size, shared_timing=record.pack_size > 1),
            "environment": describe_environment(trial.config.device),
            "files": dict(checksums),
        }
    )


def _describe_trial(trial: Trial) -> dict[str, object]:
    """The keys of a run that are known before its training."""
    return {
        "seed": trial.config.seed,
        "config": trial.config.mapping,
        "fingerprint": trial.fingerprint,
        "sweep": None
        if trial.sweep is None
        else SweepPlace(
            name=trial.sweep,
            cell=dict(trial.cell),
            replicate=trial.replicate,
            stage=trial.stage,
            objective=trial.objective,
        ),
    }


def _write_metrics(path: Path, rows: Sequence[Row]) -> None:
    names = [*LEADING_COLUMNS, *sorted({name for row in rows for name in row} - set(LEADING_COLUMNS))]
    columns = {name: _column(np.array([row.get(name, math.nan) for row in rows], np.float64)) for name in names}
    columns["step"] = _column(np.array([row["step"] for row in rows], np.int64))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    write_durably(path, sink.getvalue().to_pybytes())


def _column(values: np.ndarray) -> pa.Array:
    """As `pa.array` without nulls, which would import pandas to look whether the values are a series."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _replace(draft: Path, final: Path) -> None:
    """Rename `draft` to `final`. What stood there is removed afterwards or, where it was damaged, set aside."""
    old = None
    try:
        os.rename(draft, final)
    except OSError:
        if _read_whole(final) is None:
            log.warning("%s was damaged: set aside as %s, and trained again", final, set_aside(final))
        else:
            old = _temporary(final)
            os.rename(final, old)
        os.rename(draft, final)
    sync_folder(final.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _read_whole(folder: Path) -> Run | None:
    """The run in a folder, if it can be read and its files are the ones that were written with it."""
    try:
        run = read_run(folder)
        whole = _sha256(folder / METRICS_FILE) == run.files.get(METRICS_FILE)
    except READ_ERRORS:
        return None
    return run if whole and not any(find_weight_faults(run)) else None


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
