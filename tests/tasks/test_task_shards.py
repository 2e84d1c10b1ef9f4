"""Tokens in shards: read as modded-nanogpt lays them out, through a memory map, and refused where they are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.training.batches import IndexStream
from tasks.gpt_nano import GPT, GPTTask
from tasks.shards import GPT2_VOCABULARY, Windows, load_shards


def write_shard(file: Path, tokens: Any, **header: int) -> None:
    values = np.zeros(256, dtype="<i4")
    values[:3] = header.get("magic", 20240520), header.get("version", 1), header.get("num_tokens", len(tokens))
    file.write_bytes(values.tobytes() + np.asarray(tokens, dtype="<u2").tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shard(tmp_path / "fineweb_train_000001.bin", np.arange(100) + 50_000)
    write_shard(tmp_path / "fineweb_train_000002.bin", np.arange(30))
    write_shard(tmp_path / "fineweb_val_000000.bin", np.arange(80) + 200)
    return tmp_path


def make_gpt(folder: Path, **changes: Any) -> GPTTask:
    options: dict[str, Any] = {"num_layers": 1, "num_heads": 2, "width": 8, "context": 8, "tied_head": True}
    options |= {"data": "shards", "path": str(folder), "batch_size": 4}
    return GPTTask(**(options | changes), device=torch.device("cpu"))


def test_windows_lie_within_one_shard_and_keep_tokens_above_32767(folder: Path) -> None:
    task = make_gpt(folder)
    assert task.num_train == 92 + 22
    windows = task.batch("train", torch.tensor([0, 91, 92, 113]))
    assert [row.tolist() for row in windows] == [list(range(start, start + 9)) for start in (50_000, 50_091, 0, 21)]


def test_halves_of_the_held_out_shard_validate_and_test(folder: Path) -> None:
    task = make_gpt(folder)
    val, test = (task.batch(split, torch.arange(task.num_val)) for split in ("val", "test"))
    assert (val[0, 0], val.max(), test.min(), test.max()) == (200, 232, 240, 272)  # type: ignore[union-attr,call-overload]


def test_windows_are_the_same_under_vmap(folder: Path) -> None:
    task = make_gpt(folder)
    index = torch.tensor([[0, 91], [92, 113]])
    assert torch.equal(torch.vmap(lambda row: task.batch("train", row))(index), task.batch("train", index))


def test_indices_of_shards_stay_where_the_shards_are_read(folder: Path) -> None:
    stream = IndexStream(make_gpt(folder), [torch.Generator()], "meta")
    assert stream.next().device == torch.device("cpu")


def test_shards_are_mapped_and_not_read(folder: Path) -> None:
    shards, _ = load_shards(str(folder))
    file = folder / "fineweb_train_000001.bin"
    with file.open("r+b") as stream:
        stream.seek(1024)
        stream.write(b"\x07\x00")
    assert Windows(shards["train"], 2, 1).take(torch.tensor([0]))[0, 0] == 7


def test_the_fingerprint_changes_with_a_token(folder: Path) -> None:
    before = make_gpt(folder).fingerprint
    assert make_gpt(folder, width=16).fingerprint == before
    write_shard(folder / "fineweb_train_000002.bin", np.arange(30) + 1)
    assert make_gpt(folder).fingerprint != before


@pytest.mark.parametrize(
    ("name", "header", "message"),
    [
        ("a_val.bin", {"magic": 1}, "header is not that of version 1"),
        ("a_val.bin", {"version": 2}, "header is not that of version 1"),
        ("a_val.bin", {"num_tokens": 2**30}, "its header says 1073741824 tokens"),
        ("a_val.bin", {"num_tokens": -1}, "its header says -1 tokens"),
    ],
)
def test_files_of_another_layout_are_one_line(folder: Path, name: str, header: dict[str, int], message: str) -> None:
    write_shard(folder / name, np.arange(20), **header)
    with pytest.raises(ValueError, match=message) as caught:
        make_gpt(folder)
    assert "\n" not in str(caught.value)


def test_short_files_and_folders_without_both_kinds_are_one_line(folder: Path) -> None:
    (folder / "cut_val.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match="is no shard of tokens"):
        make_gpt(folder)
    for file in folder.glob("*val*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"is no folder of shards.*\*val\*\.bin"):
        make_gpt(folder)
    with pytest.raises(ValueError, match=r"^path=None: expected the path of"):
        make_gpt(folder, path=None)


def test_a_context_longer_than_a_split_is_one_line(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"has too few tokens for task\.context=64"):
        make_gpt(folder, context=64)


def test_the_small_size_has_gpt2s_parameters() -> None:
    with torch.device("meta"):
        model = GPT(GPT2_VOCABULARY, num_layers=12, num_heads=12, width=768, context=1024, tied_head=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(124e6, rel=0.01)
