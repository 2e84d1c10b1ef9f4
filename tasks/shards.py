"""Tokens in shards: files of 256 int32 as a header and then uint16, read by memory map and never as a whole.

The layout is that of llm.c and modded-nanogpt (https://github.com/KellerJordan/modded-nanogpt): the header holds a
magic number, a version and the number of tokens. Names of files with `val` hold out, all others train.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.base import data_fingerprint
from tasks.options import check_path

MAGIC, VERSION = 20240520, 1
HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
GPT2_VOCABULARY = 50257
NUM_BLOCKS, BLOCK = 64, 4096
"""A fingerprint reads so many blocks of so many tokens of each shard, evenly spread: hashing all would take minutes."""


class Windows:
    """Windows of `size` tokens over several shards as if they were one list; none crosses from one shard to the next.

    Args:
        shards: int16 [N], the bits of uint16, on the CPU.
        size: tokens in a window.
        stride: tokens from one window to the next.
    """

    def __init__(self, shards: Sequence[Tensor], size: int, stride: int) -> None:
        self.parts = [shard.unfold(0, size, stride) for shard in shards if len(shard) >= size]
        self.size = size

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def take(self, index: Tensor) -> Tensor:
        """The windows of these numbers [B], int64 [B, size], on the CPU; also under `torch.vmap` over `index`."""
        index = index.cpu()
        windows = torch.zeros((*index.shape, self.size), dtype=torch.int64)
        first = 0
        for part in self.parts:
            place = index - first
            inside = (place >= 0) & (place < len(part))
            bits = part[place.clamp(0, len(part) - 1)].long()
            windows = torch.where(inside.unsqueeze(-1), bits & 0xFFFF, windows)
            first += len(part)
        return windows


def load_shards(path: str | None) -> tuple[dict[str, list[Tensor]], str]:
    """The tokens of each split, int16 holding the bits of uint16, and the data's fingerprint.

    Args:
        path: A folder of `.bin` files. Half of the held-out tokens validates, the other half tests.

    Raises:
        ValueError: no such folder, no shards of one kind in it, a file of another layout; one line.
    """
    folder = check_path("path", path, folder_allowed=True)
    files = sorted(folder.glob("*.bin")) if folder.is_dir() else []
    held_out_files = [file for file in files if "val" in file.name]
    if not held_out_files or len(held_out_files) == len(files):
        raise ValueError(f"task.path={path!r} is no folder of shards: it needs *.bin for training and *val*.bin beside")
    shards = {file: _map_shard(file) for file in files}
    held_out = [shards.pop(file) for file in held_out_files]
    halves = [shard.tensor_split(2) for shard in held_out]
    splits = {
        "train": list(shards.values()),
        "val": [half[0] for half in halves],
        "test": [half[1] for half in halves],
    }
    return splits, data_fingerprint(*map(_sample_bytes, [*shards.values(), *held_out]), layout="shards")


def _map_shard(file: Path) -> Tensor:
    header = np.fromfile(file, dtype="<i4", count=HEADER_INTS)
    if len(header) < HEADER_INTS or header[0] != MAGIC or header[1] != VERSION:
        raise ValueError(f"{file} is no shard of tokens: its header is not that of version {VERSION}")
    num_tokens, size = int(header[2]), file.stat().st_size
    if num_tokens < 1 or size != HEADER_BYTES + 2 * num_tokens:
        raise ValueError(f"{file} is no shard of tokens: it has {size} bytes, and its header says {num_tokens} tokens")
    tokens = np.memmap(file, dtype="<i2", mode="c", offset=HEADER_BYTES, shape=(num_tokens,))  # "c": torch wants it
    return torch.from_numpy(tokens)


def _sample_bytes(shard: Tensor) -> bytes:
    starts = sorted({max(0, len(shard) - BLOCK) * number // (NUM_BLOCKS - 1) for number in range(NUM_BLOCKS)})
    blocks = [shard[start : start + BLOCK].numpy().tobytes() for start in starts]
    return len(shard).to_bytes(8, "little") + b"".join(blocks)
