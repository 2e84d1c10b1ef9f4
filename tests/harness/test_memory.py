"""Memory that does not suffice is recognised in all of its forms."""

import pytest
import torch

from bench.training.memory import is_out_of_memory, peak_memory_bytes
from bench.training.model import set_tf32


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: not enough memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=str,
)
def test_every_form_is_recognised(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), ValueError("CUDA error: out of memory"), RuntimeError("memory format")]
)
def test_other_errors_are_not(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_a_cpu_has_no_peak() -> None:
    assert peak_memory_bytes(torch.device("cpu")) is None


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("bfloat16", True), ("float64", False)])
def test_products_and_convolutions_are_set_alike(precision: str, tf32: bool) -> None:
    set_tf32(precision)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (tf32, tf32)
