"""The one module that reads files: run folders, thousands and any mixture, into two frames and a list of problems."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.analysis.records import MAX_TEXT, clean_text, parse_record
from bench.reading import METRICS_FILE, RUN_FILE, read_bytes, read_json

MAX_METRICS_BYTES = 256 * 2**20
MAX_VALUES = 20_000_000
MAX_COLUMNS = 128
REQUIRED_METRICS = ("step", "val_loss")
METRIC_NAME = re.compile(r"[A-Za-z0-9_./-]{1,80}")
READ_ERRORS = (ValueError, OSError, RecursionError)


@dataclass(frozen=True)
class Loaded:
    """What the folders held; the columns stand in `bench.analysis`."""

    runs: pd.DataFrame
    metrics: pd.DataFrame
    problems: pd.DataFrame


def load(paths: Sequence[Path]) -> Loaded:
    """Reads every run folder at or below `paths`.

    Half-written folders (a name that starts with "." or ends in ".tmp") are passed over; what cannot be read, has
    another schema version, misses a file or fails its checksum becomes a row of `problems`.

    Raises:
        ValueError: a path that does not exist.
    """
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder: give folders that hold runs, e.g. results/")
    folders = sorted({folder for path in paths for folder in find_folders(path.resolve())})
    # Two threads: decoding leaves the interpreter's lock, and more of them only wait for each other.
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(_read_folder, folders, chunksize=64))
    rows: list[dict[str, Any]] = []
    tables: list[pa.Table] = []
    problems: list[dict[str, str]] = []
    for folder, (row, table, problem) in zip(folders, results, strict=True):
        if row is None:
            problems.append({"path": clean_text(_short(folder)), "problem": problem})
            continue
        if table is not None:
            tables.append(table.append_column("run", pa.array(np.full(table.num_rows, len(rows), dtype=np.int32))))
        rows.append(row | {"path": clean_text(_short(folder))})
    runs = pd.DataFrame(rows)
    runs.index.name = "run"
    return Loaded(runs, _concatenate(tables), pd.DataFrame(problems, columns=["path", "problem"]))


def _short(folder: Path) -> str:
    text = str(folder)
    return text if len(text) <= MAX_TEXT else "…" + text[1 - MAX_TEXT :]


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


def _read_folder(folder: Path) -> tuple[dict[str, Any] | None, pa.Table | None, str]:
    """The run's row and metrics, or (None, None, why not)."""
    try:
        document = read_json(folder / RUN_FILE)
        row = parse_record(document)
        files = document.get("files")
        digest = files.get(METRICS_FILE) if isinstance(files, dict) else None
        # A run that failed before its first evaluation has no metrics, and is still a result.
        if digest is None and row["status"] in ("failed", "interrupted") and not (folder / METRICS_FILE).exists():
            return row, None, ""
        return row, read_metrics(read_bytes(folder / METRICS_FILE, MAX_METRICS_BYTES), digest), ""
    except READ_ERRORS as error:
        return None, None, explain(error)


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


def _concatenate(tables: list[pa.Table]) -> pd.DataFrame:
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in ("run", "step", "train_loss", "val_loss")})
    # Columns that only a stranger's file has would multiply by the number of all rows.
    counts: dict[str, int] = {}
    for table in tables:
        for name in table.column_names:
            counts[name] = counts.get(name, 0) + 1
    kept = sorted(counts, key=lambda name: (name not in ("run", *REQUIRED_METRICS), -counts[name], name))[:MAX_COLUMNS]
    selected = [table.select([name for name in kept if name in table.column_names]) for table in tables]
    metrics: pd.DataFrame = pa.concat_tables(selected, promote_options="default").to_pandas()
    for name in ("train_loss", "full_val_loss", "train_seconds"):
        if name not in metrics:
            metrics[name] = np.nan
    return metrics
