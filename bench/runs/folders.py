"""Folders on the disk: what lies where below a results folder, and in a run's. Whoever wrote it is not trusted."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.errors import clean_text
from bench.files import read_bytes, read_json
from bench.runs.schema import Run, parse_run
from bench.training.record import Row

RUN_FILE, METRICS_FILE, WEIGHTS_FILE = "run.json", "metrics.parquet", "weights.safetensors"  # what a run folder holds
VERDICT_FILE, KEPT = "verdict.json", "verdicts"  # the judge's latest answer in a folder of results, and all of them
MAX_METRICS_BYTES = 256 * 2**20
MAX_VALUES = 20_000_000
MAX_COLUMNS = 128
REQUIRED_METRICS = ("step", "val_loss")
METRIC_NAME = re.compile(r"[A-Za-z0-9_./-]{1,80}")
READ_ERRORS = (ValueError, OSError, RecursionError)


class ResultsFolder:
    """Where everything lies below a folder of results: `<task>/<optimizer>/<run_id>/`, and what is hidden beside it.

    Args:
        path: the folder, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.claims = path / ".claims"  # which living process trains which trial
        self.checkpoints = path / ".checkpoints"  # trials that were begun and are not stored
        self.calibration = path / ".calibration"  # cached measurements
        self.multirun = path / ".multirun"  # what Hydra's launchers write; conf/config.yaml names it too
        self.report = path / "report"

    def run(self, task: str, optimizer: str, run_id: str) -> Path:
        """The folder of one run."""
        return self.path / task / optimizer / run_id


def find_folders(root: Path) -> Iterator[Path]:
    """Folders at or below `root` that hold a run, or are named like one; hidden ones and drafts are passed over."""
    return (path for path, _, is_run in _walk(root) if is_run)


def find_verdicts(root: Path) -> Iterator[Path]:
    """The judge's latest answers at or below `root`, one file per folder of results."""
    return (path / VERDICT_FILE for path, files, is_run in _walk(root) if VERDICT_FILE in files and not is_run)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], bool]]:
    """Folders at or below `root`, their files, and whether they are a run's, which is not entered any further."""
    # os.walk does not follow links: a loop of links or one that points outside is never entered.
    for folder, subfolders, files in os.walk(root):
        path = Path(folder)
        looks_like_run = not subfolders and re.fullmatch(r"[0-9a-f]{16}", path.name)
        is_run = RUN_FILE in files or METRICS_FILE in files or bool(looks_like_run)
        yield path, files, is_run
        subfolders[:] = [name for name in subfolders if not (is_run or name.startswith(".") or name.endswith(".tmp"))]


def explain(error: Exception) -> str:
    """One line on why a run folder could not be read: `error` is one of READ_ERRORS."""
    if isinstance(error, FileNotFoundError):
        return f"{Path(error.filename).name} is missing"
    if isinstance(error, RecursionError):
        return f"{RUN_FILE} is not readable JSON"
    return clean_text(str(error))


def read_run(folder: Path) -> Run:
    """The run that the folder's `run.json` describes. Raises READ_ERRORS."""
    return parse_run(read_json(folder / RUN_FILE)).at(folder)


def read_checked(run: Run, name: str, max_bytes: int) -> bytes:
    """A file of a run, with the checksum that `run.json` has, where it has one. Raises READ_ERRORS."""
    content = read_bytes(run.folder / name, max_bytes)
    digest = run.files.get(name)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{name} does not match its checksum")
    return content


def read_table(run: Run) -> pa.Table | None:
    """A run's metrics, one row per evaluation: the numeric columns, `step` int64 and all others float64.

    None for a run that ended before its first evaluation and stored none.

    Raises:
        READ_ERRORS: the file is missing, has another checksum, is damaged or too large; a required column or a step is
            missing.
    """
    may_have_none = METRICS_FILE not in run.files and run.status in ("failed", "interrupted")
    if may_have_none and not (run.folder / METRICS_FILE).exists():
        return None
    content = read_checked(run, METRICS_FILE, MAX_METRICS_BYTES)
    try:
        return _decode_metrics(content)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{METRICS_FILE} is damaged") from error


def _decode_metrics(content: bytes) -> pa.Table:
    file = pq.ParquetFile(pa.BufferReader(content))
    if file.metadata.num_rows * file.metadata.num_columns > MAX_VALUES:
        raise ValueError(f"{METRICS_FILE} claims {file.metadata.num_rows} rows, more than are read")
    schema = file.schema_arrow
    names = [field.name for field in schema if _is_number(field.type) and METRIC_NAME.fullmatch(field.name)]
    names = [name for name in dict.fromkeys(names) if name != "run"][:MAX_COLUMNS]
    if missing := [name for name in REQUIRED_METRICS if name not in names]:
        raise ValueError(f"{METRICS_FILE} has no column {' and no column '.join(missing)}")
    types = [(name, pa.int64() if name == "step" else pa.float64()) for name in names]
    table = file.read(columns=names, use_threads=False).select(names).cast(pa.schema(types))
    if table.column("step").null_count:
        raise ValueError(f"{METRICS_FILE} has rows without a step")
    return table


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def read_rows(run: Run) -> list[Row]:
    """The rows of a run's metrics, one per evaluation. Raises READ_ERRORS, for a wrong checksum too."""
    table = read_table(run)
    if table is None:
        return []
    columns = [table.column(name).to_numpy().astype(float).tolist() for name in table.column_names]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]
