"""Random streams split by purpose, from (seed, task) and never from the optimizer.

Trial s of every optimizer therefore sees the same initial weights and the same batches: differences are paired.
"""

import hashlib
from typing import Literal

import torch


def make_generator(seed: int, task: str, purpose: Literal["init", "data", "global"]) -> torch.Generator:
    """A CPU generator for one purpose of one trial."""
    digest = hashlib.sha256(f"{task}/{purpose}/{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
