"""Files that outlive crashes: written durably, set aside when they are damaged, told of in one line."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import StoreError, one_line, shorten


def write_durably(path: Path, *contents: bytes | memoryview) -> None:
    """Write a file of these parts and wait until the disk has it."""
    with path.open("wb") as file:
        file.writelines(contents)
        file.flush()
        os.fsync(file.fileno())


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to a hidden name beside it that nobody reads, and return that name."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.damaged")
    os.rename(path, aside)
    return aside


@contextmanager
def told_in_one_line(results_dir: Path) -> Iterator[None]:
    """Turn what the system says about a file below `results_dir` into a StoreError."""
    try:
        yield
    except OSError as error:
        reason = one_line(error.strerror or str(error))
        raise StoreError(f"results_dir={shorten(str(results_dir))}: cannot be written: {reason}") from error
