"""Run folders as they lie on the disk: where they are, and what is in them. Whoever wrote them is not trusted."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from bench.errors import clean_text
from bench.files import METRICS_FILE, RUN_FILE, read_bytes, read_json
from bench.training.record import Row

MAX_METRICS_BYTES = 256 * 2**20
MAX_VALUES = 20_000_000
MAX_COLUMNS = 128
REQUIRED_METRICS = ("step", "val_loss")
METRIC_NAME = re.compile(r"[A-Za-z0-9_./-]{1,80}")
READ_ERRORS = (ValueError, OSError, RecursionError)


def find_folders(root: Path) -> Iterator[Path]:
    """Folders at or below `root` that hold a run, or are named like one; hidden ones and drafts are passed over."""
    # os.walk does not follow links: a loop of links or one that points outside is never entered.
    for folder, subfolders, files in os.walk(root):
        path = Path(folder)
        looks_like_run = not subfolders and re.fullmatch(r"[0-9a-f]{16}", path.name)
        if RUN_FILE in files or METRICS_FILE in files or looks_like_run:
            subfolders.clear()
            yield path
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and not name.endswith(".tmp")]


def explain(error: Exception) -> str:
    """One line on why a run folder could not be read: `error` is one of READ_ERRORS."""
    if isinstance(error, FileNotFoundError):
        return f"{Path(error.filename).name} is missing"
    if isinstance(error, RecursionError):
        return f"{RUN_FILE} is not readable JSON"
    return clean_text(str(error))


def read_metrics(content: bytes, digest: object) -> pa.Table:
    """The numeric columns of a `metrics.parquet`: `step` int64, all others float64.

    Raises:
        ValueError: `digest` is given and is not its SHA-256; it is damaged; a required column or a step is missing; it
            is too large.
    """
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{METRICS_FILE} does not match its checksum")
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


def read_run(folder: Path) -> dict[str, Any]:
    """What stands in the folder's `run.json`. Raises READ_ERRORS."""
    run = read_json(folder / RUN_FILE, _refuse_constant)
    if not isinstance(run, dict):
        raise ValueError(f"{RUN_FILE} holds no object")
    return run


def read_rows(folder: Path, run: Mapping[str, Any]) -> list[Row]:
    """The rows of a run's metrics, one per evaluation. Raises READ_ERRORS, for a wrong checksum too."""
    content = read_bytes(folder / METRICS_FILE, MAX_METRICS_BYTES)
    table = read_metrics(content, run["files"][METRICS_FILE])
    columns = [table.column(name).to_numpy().astype(float).tolist() for name in table.column_names]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{RUN_FILE} holds {name}, which JSON does not have")
