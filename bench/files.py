"""Files that outlive crashes: written durably, set aside when they are damaged, told of in one line."""

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import StoreError, one_line, shorten

MAX_JSON_BYTES = 4 * 2**20


def write_durably(path: Path, *contents: bytes | memoryview) -> None:
    """Write a file of these parts and wait until the disk has it."""
    with path.open("wb") as file:
        file.writelines(contents)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    """Give a file a new content: after a crash it holds the old one or the new one, whole."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    write_durably(draft, content)
    os.replace(draft, path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and wait until the disk has the names of the new ones."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in `folder`: what was renamed there before is so after a power cut."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no such call
            raise
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to a hidden name beside it that nobody reads, and return that name."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.damaged")
    os.rename(path, aside)
    sync_folder(path.parent)
    return aside


@contextmanager
def os_errors_as_store_error(results_dir: Path) -> Iterator[None]:
    """Turn what the system says about a file below `results_dir` into a StoreError."""
    try:
        yield
    except OSError as error:
        reason = one_line(error.strerror or str(error))
        raise StoreError(f"results_dir={shorten(str(results_dir))}: cannot be written: {reason}") from error


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
