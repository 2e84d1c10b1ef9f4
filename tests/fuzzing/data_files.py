"""Any file given as a corpus or as CIFAR-10 is read or refused in one line, and nothing in it is executed."""

import gzip
import io
import pickle
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from tasks.cifar_archive import FILES, FOLDER, load_cifar, parse_batch
from tasks.gpt_nano import GPTTask
from tests.fuzzing.hostile import damaged
from tests.fuzzing.properties import Property, make_folder, require_one_line

ROOT = make_folder("data")
CANARY = ROOT / "executed"


class Attack:
    """A pickle that creates a file where it is loaded by an ordinary unpickler."""

    def __reduce__(self) -> Any:
        return Path.touch, (CANARY,)


def _refusal_or(outcome: str, error: ValueError | None) -> str:
    if error is not None:
        require_one_line(str(error))
    assert not CANARY.exists(), "something in the file was executed"
    return "refused" if error else outcome


def read_text(content: bytes) -> str:
    path = ROOT / "text"
    path.write_bytes(content)
    try:
        GPTTask(data="text", path=str(path), num_layers=1, num_heads=1, width=4, context=4, tied_head=False,
                batch_size=2, device=torch.device("cpu"))  # fmt: skip
    except ValueError as error:
        return _refusal_or("", error)
    return _refusal_or("read", None)


def read_batch(content: bytes) -> str:
    try:
        parse_batch(content, "batch")
    except ValueError as error:
        return _refusal_or("", error)
    return _refusal_or("read", None)


def read_archive(content: bytes) -> str:
    path = ROOT / "archive.tar.gz"
    path.write_bytes(content)
    before = sorted(ROOT.parent.glob("*escaped*"))
    try:
        load_cifar(str(path))
    except ValueError as error:
        return _refusal_or("", error)
    finally:
        assert sorted(ROOT.parent.glob("*escaped*")) == before
    return _refusal_or("read", None)


@cache
def batches() -> list[bytes]:
    """Batch files of one image as Python 2 and 3 pickle them, and one that attacks."""
    batch = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [7], b"batch_label": b"", b"filenames": []}
    return [*(pickle.dumps(batch, protocol) for protocol in (0, 2, 4)), pickle.dumps(Attack(), 2)]


member_names = st.sampled_from(
    [
        "../escaped",
        "/tmp/escaped",
        f"{FOLDER}/../../escaped",
        f"{FOLDER}/extra",
        "\x1b[31m",
        "x" * 5000,
        f"{FOLDER}/a\nb",
    ]
)
kinds = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S"])


@st.composite
def archives(draw: Any) -> bytes:
    """CIFAR-10 of one image per batch, with members of other names and kinds, or damaged as a tar or as a gzip."""
    files = {f"{FOLDER}/{name}": batches()[1] for names in FILES.values() for name in names}
    extra = draw(st.lists(st.tuples(member_names, kinds, st.sampled_from([0, 1, 2**40])), max_size=2))
    hurt = draw(st.sampled_from(["nothing", "batch", "tar", "gzip"]))
    if hurt == "batch":
        files[f"{FOLDER}/test_batch"] = draw(damaged(batches()))
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, kind, size in extra:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, size, "/etc/passwd"
            sink.write(member.tobuf())
    unpacked = draw(damaged([sink.getvalue()])) if hurt == "tar" else sink.getvalue()
    packed = gzip.compress(unpacked, 1, mtime=0)
    return draw(damaged([packed])) if hurt == "gzip" else packed


plain = [b"the quick brown fox jumps\n" * 8, "žluťoučký kůň\0".encode() * 8, b"a" * 60]
PROPERTIES = {
    "data: text": Property(
        st.binary(max_size=200) | damaged(plain) | st.text(min_size=50, max_size=400).map(lambda text: text.encode()),
        read_text,
        8,
    ),
    "data: batch": Property(st.binary(max_size=60) | st.deferred(lambda: damaged(batches())), read_batch, 15),
    "data: archive": Property(st.binary(max_size=60) | archives(), read_archive, 6),
}
