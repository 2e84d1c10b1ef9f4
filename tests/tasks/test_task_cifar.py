"""CIFAR-10: the archive is read as hostile input, and augmentation is what it says."""

import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks import cifar_archive
from tasks.cifar import CIFARTask
from tasks.cifar_archive import load_cifar, parse_batch

Archive = Callable[[str, dict[str, bytes]], Path]


class RunsCommand:
    """A pickle that creates a file when it is loaded by the standard unpickler."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.path}'",)


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=r"CIFAR-10") as caught:
        load_cifar(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_batches_pickled_by_python_3_are_read(make_batch: Callable[..., bytes]) -> None:
    data = make_batch(seed=0, num_images=16)
    expected = pickle.loads(data)
    images, labels = parse_batch(data, "batch")
    assert images.shape == (16, 3, 32, 32)
    assert np.array_equal(images.reshape(16, -1), expected[b"data"])
    assert labels.tolist() == expected[b"labels"]


def test_batches_pickled_by_python_2_as_the_original_are_read() -> None:
    pixels = bytes(range(256)) * 12
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\nI3072\nt"
        b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nT"
        + struct.pack("<I", 3072)
        + pixels
        + b"tb"
    )
    data = b"\x80\x02}(U\x04data" + array + b"U\x06labels(lI7\nau."
    images, labels = parse_batch(data, "batch")
    assert images.tobytes() == pixels
    assert labels.tolist() == [7]


def test_folder_its_parent_and_archive_give_the_same_data(
    tmp_path: Path, cifar_files: dict[str, bytes], make_archive: Archive
) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, content in cifar_files.items():
        (tmp_path / name).write_bytes(content)
    sources = [folder, tmp_path, make_archive("same", cifar_files)]
    fingerprints = [make_cifar(source).fingerprint for source in sources]
    assert len(set(fingerprints)) == 1


def make_cifar(path: Path) -> CIFARTask:
    return CIFARTask(path=str(path), width=8, num_blocks=1, batch_size=8, device=torch.device("cpu"))


def test_malicious_pickle_is_refused_and_not_executed(
    tmp_path: Path, cifar_files: dict[str, bytes], make_archive: Archive
) -> None:
    proof = tmp_path / "executed"
    attack = pickle.dumps(RunsCommand(proof), protocol=2)
    pickle.loads(attack)
    assert proof.exists(), "the attack must work where nothing guards against it"
    proof.unlink()
    message = refusal(make_archive("attack", cifar_files | {"cifar-10-batches-py/test_batch": attack}))
    assert "system" in message
    assert not proof.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "eval"), ("__builtin__", "getattr"), ("numpy", "load"), ("numpy.core.multiarray", "x")],
)
def test_only_what_the_format_needs_can_be_named(module: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"asks for {module}.{name}"):
        parse_batch(f"c{module}\n{name}\n.".encode(), "batch")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\x80\x02]q\x00.",
        pickle.dumps({"data": b"", "labels": []}),
        pickle.dumps({b"data": 1, b"labels": [1]}),
        b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b".",  # a frame said to be of 1 EiB
        b"\x80\x04N\x8e" + struct.pack("<Q", 2**62),  # a byte string said to be of 4 EiB
        b"\x80\x04Nr" + struct.pack("<I", 2**32 - 2) + b".",  # a memo slot for which the C unpickler takes 64 GB
    ],
)
def test_corrupt_pickles_are_one_line(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^batch is no CIFAR-10 batch: ") as caught:
        parse_batch(data, "batch")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "batch",
    [
        {"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, True]},
        {"data": np.zeros((0, 3072), np.uint8), "labels": []},
    ],
)
def test_batches_of_another_shape_or_label_are_refused(batch: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is no CIFAR-10 batch: its"):
        parse_batch(pickle.dumps(batch, protocol=2), "batch")


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "cifar-10-batches-py/../../escaped"])
def test_members_that_point_outside_are_refused(
    cifar_files: dict[str, bytes], make_archive: Archive, name: str
) -> None:
    archive = make_archive("outside", cifar_files | {name: b"content"})
    assert "points outside" in refusal(archive)
    assert not (archive.parent.parent / "escaped").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "links.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    assert "neither a plain file nor a folder" in refusal(path)


def test_member_that_claims_a_huge_size_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
    member.size = 2**40
    path = tmp_path / "huge.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        assert tar.fileobj is not None
        tar.fileobj.write(member.tobuf())
    assert "bytes" in refusal(path)


def test_archive_that_unpacks_beyond_the_limit_is_refused(
    cifar_files: dict[str, bytes], make_archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_archive("bomb", cifar_files | {"cifar-10-batches-py/zeros": bytes(2**22)})
    monkeypatch.setattr(cifar_archive, "MAX_ARCHIVE_BYTES", 2**20)
    assert "unpacks to more than" in refusal(archive)


def test_too_many_members_are_refused(cifar_files: dict[str, bytes], make_archive: Archive) -> None:
    extra = {f"cifar-10-batches-py/extra{number}": b"" for number in range(20)}
    assert "more than 16 members" in refusal(make_archive("many", cifar_files | extra))


def test_truncated_archives_and_other_files_are_one_line(
    tmp_path: Path, cifar_files: dict[str, bytes], make_archive: Archive
) -> None:
    whole = make_archive("whole", cifar_files).read_bytes()
    contents = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not an archive"}
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    for name, content in {**contents, "flipped": bytes(flipped)}.items():
        path = tmp_path / name
        path.write_bytes(content)
        refusal(path)


def test_missing_batch_is_named(tmp_path: Path, cifar_files: dict[str, bytes], make_archive: Archive) -> None:
    files = {name: content for name, content in cifar_files.items() if not name.endswith("data_batch_3")}
    assert "data_batch_3 is missing" in refusal(make_archive("missing", files))
    assert "data_batch_1 is missing" in refusal(tmp_path)


def test_without_a_network_one_line_names_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens: a real refused connection
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"^cannot download .*task\.path=") as caught:
        load_cifar(None)
    assert "\n" not in str(caught.value)


@pytest.fixture
def tiny_cifar(cifar_files: dict[str, bytes], make_archive: Archive) -> CIFARTask:
    return make_cifar(make_archive("tiny_cifar", cifar_files))


def test_augmentation_is_a_crop_of_the_padded_image_then_mirrored(
    tiny_cifar: CIFARTask, cifar_files: dict[str, bytes]
) -> None:
    original = parse_batch(cifar_files["cifar-10-batches-py/data_batch_1"], "batch")[0]
    for index in ([3, 0, 4, 4], [3, 1, 4, 4], [5, 0, 0, 8], [5, 1, 7, 2]):
        image, flip, top, left = index
        padded = np.pad(original[image], ((0, 0), (4, 4), (4, 4)), mode="reflect")
        expected = padded[:, top : top + 32, left : left + 32]
        images, _ = tiny_cifar.batch("train", torch.tensor([index]))
        assert np.array_equal(images[0].numpy(), expected[:, :, ::-1] if flip else expected)


def test_sampled_augmentations_cover_their_whole_range(tiny_cifar: CIFARTask) -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.cat([tiny_cifar.sample(generator) for _ in range(500)])
    for column, size in enumerate([tiny_cifar.num_train, 2, 9, 9]):
        assert index[:, column].unique().tolist() == list(range(size))


@pytest.mark.parametrize(
    ("key", "value"),
    [("width", 12), ("width", 0), ("num_blocks", 0), ("num_blocks", 2.0), ("path", "/no/such/file"), ("path", 3)],
)
def test_bad_options_are_one_line_naming_key_and_value(
    cifar_files: dict[str, bytes], make_archive: Archive, key: str, value: object
) -> None:
    options: dict[str, Any] = {"path": str(make_archive("options", cifar_files)), "width": 8, "num_blocks": 1}
    with pytest.raises(ValueError, match=rf"^{key}={value!r}") as caught:
        CIFARTask(**(options | {key: value}), batch_size=8, device=torch.device("cpu"))
    assert "\n" not in str(caught.value)
