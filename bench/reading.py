"""Files that anybody may have written: read whole only if they are plain files of bounded size."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUN_FILE, METRICS_FILE = "run.json", "metrics.parquet"  # what a run folder holds
MAX_JSON_BYTES = 4 * 2**20


def read_bytes(path: Path, limit: int) -> bytes:
    """What the file holds.

    Raises:
        FileNotFoundError: there is nothing by this name.
        ValueError: a folder, a pipe or a device; more than `limit` bytes.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError(f"{path.name} is not a plain file")
    if size > limit:
        raise ValueError(f"{path.name} has {size} bytes, more than the {limit} that are read")
    return path.read_bytes()


def read_json(path: Path, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """The document in a file, NaN and infinities as `parse_constant` makes them of their names.

    Raises:
        ValueError: it is no JSON, or nested too deeply. All else is as in `read_bytes`.
    """
    try:
        return json.loads(read_bytes(path, MAX_JSON_BYTES), parse_constant=parse_constant)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path.name} is not readable JSON") from error
