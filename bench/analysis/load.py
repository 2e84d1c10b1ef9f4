"""Run folders, thousands and any mixture, into two frames and a list of problems."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.analysis.rows import parse_record
from bench.errors import MAX_TEXT, clean_text
from bench.runs.folders import MAX_COLUMNS, READ_ERRORS, REQUIRED_METRICS, explain, find_folders, read_run, read_table
from bench.runs.rounds import read_sessions

TIMED_COLUMNS = ["task", "batch_size", "precision", "device", "optimizer", "session", "round", "step_seconds"]


@dataclass(frozen=True)
class Loaded:
    """What the folders held; the columns stand in `bench.analysis`, those of timed rounds in `TIMED_COLUMNS`.

    Attributes:
        labels: of the folders, in the order in which they were given.
    """

    runs: pd.DataFrame
    metrics: pd.DataFrame
    problems: pd.DataFrame
    rounds: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=TIMED_COLUMNS))
    labels: Sequence[str] = ()


def load(paths: Sequence[Path] | Mapping[Path, str]) -> Loaded:
    """Reads every run folder at or below `paths`.

    Half-written folders (a name that starts with "." or ends in ".tmp") are passed over; what cannot be read, has
    another schema version, misses a file or fails its checksum becomes a row of `problems`.

    Args:
        paths: Folders; in a mapping, each with the label that tells its runs from those of others ("": none).

    Raises:
        ValueError: a path that does not exist.
    """
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder: give folders that hold runs, e.g. results/")
    labels = paths if isinstance(paths, Mapping) else dict.fromkeys(paths, "")
    label_of = {folder: label for path, label in labels.items() for folder in find_folders(path.resolve())}
    folders = sorted(label_of)
    # Two threads: decoding leaves the interpreter's lock, and more of them only wait for each other.
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(_read_folder, folders, chunksize=64))
    rows: list[dict[str, object]] = []
    tables: list[pa.Table] = []
    problems: list[dict[str, str]] = []
    for folder, (row, table, problem) in zip(folders, results, strict=True):
        if row is None:
            problems.append({"path": clean_text(_short(folder)), "problem": problem})
            continue
        if table is not None:
            tables.append(table.append_column("run", pa.array(np.full(table.num_rows, len(rows), dtype=np.int32))))
        rows.append(row | {"path": clean_text(_short(folder)), "label": label_of[folder]})
    runs = pd.DataFrame(rows)
    runs.index.name = "run"
    turns = list(_read_rounds(list(paths), problems))
    rounds = pd.DataFrame(turns, columns=TIMED_COLUMNS)
    return Loaded(
        runs, _concatenate(tables), pd.DataFrame(problems, columns=["path", "problem"]), rounds, list(labels.values())
    )


def _read_rounds(paths: Sequence[Path], problems: list[dict[str, str]]) -> Iterator[dict[str, object]]:
    """A row per turn of every session of `python -m bench.times`; what cannot be read becomes a problem."""
    sessions = {path: session for root in paths for path, session in read_sessions(root.resolve())}
    for path, session in sessions.items():
        if isinstance(session, str):
            problems.append({"path": clean_text(_short(path)), "problem": clean_text(session)})
            continue
        same = {name: getattr(session, name) for name in ("batch_size", "precision", "session")}
        names = {"task": clean_text(session.task), "device": session.environment.device}
        yield from ({**same, **names, **turn.model_dump(), "optimizer": clean_text(turn.optimizer)}
                    for turn in session.rounds)  # fmt: skip


def _short(folder: Path) -> str:
    text = str(folder)
    return text if len(text) <= MAX_TEXT else "…" + text[1 - MAX_TEXT :]


def _read_folder(folder: Path) -> tuple[dict[str, object] | None, pa.Table | None, str]:
    """The run's row and metrics, or (None, None, why not)."""
    try:
        run = read_run(folder)
        return parse_record(run), read_table(run), ""
    except READ_ERRORS as error:
        return None, None, explain(error)


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
