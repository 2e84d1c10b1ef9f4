"""CIFAR-10 in its original layout, read as hostile input.

Nothing is extracted to disk, sizes are bounded before they are believed, and nothing that a pickle names is executed.
"""

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.download import fetch
from tasks.options import check_path

CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR_MD5 = "c58f30108f718f92721af3b95e74349a"

FOLDER = "cifar-10-batches-py"
FILES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
NUM_CLASSES = 10
ROW_BYTES = 3 * 32 * 32

# The original is 186 MB unpacked: nine members of at most 31 MB.
MAX_ARCHIVE_BYTES = 256 * 2**20
MAX_FILE_BYTES = 40 * 2**20
MAX_MEMBERS = 16
MAX_WORDS = 200

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def load_cifar(path: str | None) -> dict[str, tuple[Images, Labels]]:
    """Images and labels as the archive divides them, into `train` and `test`.

    Args:
        path: A folder or a `.tar.gz` archive in the original layout; None downloads the archive once.

    Returns:
        For each images uint8 [N, 3, 32, 32] and labels int64 [N] within 0..9.

    Raises:
        ValueError: a missing, corrupt or hostile file, or no network; one line.
    """
    if path is None:
        source = fetch(CIFAR_URL, f"md5:{CIFAR_MD5}", "task.path=DIR-or-ARCHIVE with a copy of cifar-10-python.tar.gz")
    else:
        source = check_path("path", path, folder_allowed=True)
    files = _read_folder(source) if source.is_dir() else _read_archive(source)
    splits = {}
    for split, names in FILES.items():
        parts = [parse_batch(files[name], f"{source}: {name}") for name in names]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        splits[split] = images, labels
    return splits


def _read_folder(folder: Path) -> dict[str, bytes]:
    """The batch files in `folder`, or in the archive's own folder below it."""
    files = {}
    for name in (*FILES["train"], *FILES["test"]):
        candidates = [folder / name, folder / FOLDER / name]
        file = next((candidate for candidate in candidates if candidate.is_file()), None)
        if file is None:
            raise ValueError(f"{folder} is no CIFAR-10 folder: {name} is missing")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"{file} is too large for CIFAR-10: more than {MAX_FILE_BYTES} bytes")
        files[name] = file.read_bytes()
    return files


def _read_archive(archive: Path) -> dict[str, bytes]:
    """The batch files of a gzipped tar, read in memory."""
    try:
        with gzip.open(archive) as stream:
            unpacked = stream.read(MAX_ARCHIVE_BYTES + 1)
        if len(unpacked) > MAX_ARCHIVE_BYTES:
            raise tarfile.ReadError(f"it unpacks to more than {MAX_ARCHIVE_BYTES} bytes")
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as tar:
            files = _read_members(tar)
    except Exception as error:  # a corrupt archive can fail in any way
        raise ValueError(f"{archive} is no CIFAR-10 archive: {_one_line(error)}") from error
    for name in (*FILES["train"], *FILES["test"]):
        if name not in files:
            raise ValueError(f"{archive} is no CIFAR-10 archive: {FOLDER}/{name} is missing")
    return files


def _one_line(error: Exception) -> str:
    """What the error says, where a hostile file may have chosen the words."""
    words = " ".join(str(error)[:MAX_WORDS].split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words) or type(error).__name__


def _read_members(tar: tarfile.TarFile) -> dict[str, bytes]:
    """Contents of the regular files below the archive's folder, by name."""
    files = {}
    for count, member in enumerate(tar, start=1):
        member_path = PurePosixPath(member.name)
        if count > MAX_MEMBERS:
            raise tarfile.ReadError(f"it has more than {MAX_MEMBERS} members")
        if member_path.is_absolute() or ".." in member_path.parts:
            raise tarfile.ReadError(f"its member {member.name!r} points outside")
        if not (member.isreg() or member.isdir()) or member.issparse():
            raise tarfile.ReadError(f"its member {member.name!r} is neither a plain file nor a folder")
        if member.size > MAX_FILE_BYTES:
            raise tarfile.ReadError(f"its member {member.name!r} has more than {MAX_FILE_BYTES} bytes")
        content = tar.extractfile(member)
        if content is not None and str(member_path.parent) == FOLDER:
            files[member_path.name] = content.read()
    return files


class _PickledArray:
    """Stands in for a numpy array while unpickling: keeps its state and computes nothing."""

    shape: tuple[int, ...] = ()
    data: str = ""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple[object, tuple[int, ...], object, bool, str]) -> None:
        _, self.shape, _, _, self.data = state


class _PickledDtype:
    """Stands in for a numpy dtype: the only one there can be is uint8, which the size of the data confirms."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


class _KeepText:
    """Stands in for `_codecs.encode` and `bytes`, by which Python 3 spells bytes as latin-1 text and empty bytes."""

    def __call__(self, text: str = "", _encoding: str = "") -> str:
        return text

    def __setstate__(self, state: object) -> None:
        """A pickle may set the attributes of whatever it holds; those of a function would stay set for the next one."""
        raise pickle.UnpicklingError("it changes what it should only call")


# What a pickle may name, and the inert thing it gets. numpy 2 moved its core.
ADMITTED: Mapping[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _KeepText(),
    ("__builtin__", "bytes"): _KeepText(),
}


class BatchUnpickler(pickle._Unpickler):
    """Unpickles one batch file of CIFAR-10 and refuses to look up anything else than `ADMITTED`.

    It derives from the unpickler written in Python: a few bytes can make the one written in C allocate gigabytes.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global, or `UnpicklingError`."""
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which CIFAR-10 does not need")
        return ADMITTED[module, name]


def parse_batch(data: bytes, source: str) -> tuple[Images, Labels]:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N] of one pickled batch.

    Args:
        data: The pickle of a dict with `data`, N rows of 3,072 bytes in the order channel, row, column, and `labels`, a
            list of N integers.
        source: Names the file in errors.

    Raises:
        ValueError: anything but such a dict; one line.
    """
    try:
        batch = BatchUnpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a corrupt pickle can fail in any way
        raise ValueError(f"{source} is no CIFAR-10 batch: {_one_line(error)}") from error
    array = batch.get("data") if isinstance(batch, dict) else None
    labels = batch.get("labels") if isinstance(batch, dict) else None
    if not isinstance(array, _PickledArray) or not isinstance(labels, list):
        raise ValueError(f"{source} is no CIFAR-10 batch: data and labels are not where they should be")
    pixels = array.data.encode("latin1", "replace") if isinstance(array.data, str) else b""
    if array.shape != (len(labels), ROW_BYTES) or len(pixels) != len(labels) * ROW_BYTES:
        raise ValueError(f"{source} is no CIFAR-10 batch: its data are not {len(labels)} rows of {ROW_BYTES} bytes")
    if not labels or not all(type(label) is int and 0 <= label < NUM_CLASSES for label in labels):
        raise ValueError(f"{source} is no CIFAR-10 batch: its labels are not integers from 0 to {NUM_CLASSES - 1}")
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)
