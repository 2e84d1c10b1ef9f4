"""Keeping freed memory in the process, where handing it back costs more than it saves."""

import ctypes
import ctypes.util
import re
from functools import cache

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>
LARGEST_INT = 2**31 - 1
OUT_OF_MEMORY = re.compile(  # of the allocator, the driver, and the libraries that allocate for themselves
    r"DefaultCPUAllocator|_STATUS_ALLOC_FAILED|(CUDA|HIP) (error: )?out of memory|cudaErrorMemoryAllocation|bad_alloc"
)


@cache
def keep_freed_memory() -> None:
    """Tell glibc not to return freed memory to the system; elsewhere do nothing.

    Every step of a pack on a CPU allocates and frees the same megabytes. By default glibc unmaps and refaults them each
    time, which made steps of `mlp` packs 1.2 to 1.6 times slower (scripts/pack_throughput.py measures them).
    """
    name = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, LARGEST_INT)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the device or of the machine, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None


def reset_peak_memory(device: torch.device) -> None:
    """Measure the device's peak from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most that tensors have held on the device at once since the reset; None on a CPU, which does not count."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
