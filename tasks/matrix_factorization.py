"""Factorizing a real height map: not convex, ill-conditioned, and its optimum is a truncated SVD."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tasks.base import Batch, Task, data_fingerprint
from tasks.options import check_int

INIT_STD = 0.015

GAIN = 64.0
"""The factors' product is multiplied by it, so that their entries are of a network's size and usual lr are right."""


class Factors(nn.Module):
    """Two factors, `left` [rows, rank] and `right` [columns, rank]."""

    def __init__(self, num_rows: int, num_columns: int, rank: int) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.empty(num_rows, rank))
        self.right = nn.Parameter(torch.empty(num_columns, rank))

    def forward(self) -> Tensor:
        """Their product [rows, columns]."""
        return self.left @ self.right.T


class MatrixFactorizationTask(Task):
    """Minimise ||M - L R^T||^2 / ||M||^2 over L and R, less its optimum, which truncated singular values give.

    M is the height map of the Jacksboro fault, 344 x 403 real elevations standardised, from matplotlib's sample data
    (of the U.S. Geological Survey, in the public domain). Eckart and Young 1936: no L R^T of rank r is nearer to M than
    its first r singular triples, and what is left is the sum of the other squared singular values. The excess over it
    is 0 at the optimum, and metrics compute it in float64. All local minima are global (Ge et al. 2017, arXiv
    1704.00708). Deterministic: every batch is the whole matrix.

    Args:
        rank: Columns of the factors. The squared singular value that a rank ends with should be well above the next,
            by 31 % at rank 10. Where it is not (4 % at rank 32), factors stay for long at a saddle with the one in
            place of the other, and chance decides the final loss: AdamW's differs e-fold from seed to seed.
        batch_size: No effect.
    """

    validation_is_truth = True
    num_train = num_val = num_eval = eval_chunk = 1

    def __init__(self, *, rank: int, batch_size: int, device: torch.device) -> None:
        super().__init__(batch_size=batch_size, device=device)
        heights = load_heights()
        check_int("rank", rank, 1, min(heights.shape) - 1)
        self.rank = rank
        matrix = torch.from_numpy(heights).double()
        matrix = (matrix - matrix.mean()) / matrix.std()
        matrix /= matrix.norm()
        self.optimum = torch.linalg.svdvals(matrix)[rank:].square().sum().to(device)
        self.gain = GAIN / matrix.numel() ** 0.5
        self.matrix = matrix.to(device)
        self.fingerprint = data_fingerprint(heights.tobytes(), rank=rank)

    def make_model(self) -> nn.Module:
        """The factors."""
        num_rows, num_columns = self.matrix.shape
        return Factors(num_rows, num_columns, self.rank)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """Normal and small, near the saddle at zero."""
        parameter.normal_(0.0, INIT_STD, generator=generator)

    def batch(self, split: str, index: Tensor) -> Batch:
        """The index, on the device: the whole matrix is read every time."""
        return index.to(self.device)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Excess of the squared relative error over the optimum."""
        return self._excess(model().to(model.left.dtype))

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`loss`, the excess in float64: near the optimum it is a small difference of large numbers."""
        return {"loss": self._excess(model.left.double() @ model.right.double().T)}  # type: ignore[operator]

    def _excess(self, product: Tensor) -> Tensor:
        error: Tensor = (self.matrix.to(product.dtype) - product * self.gain).square().sum()
        optimum: Tensor = self.optimum.to(error.dtype)
        return error - optimum


def load_heights() -> np.ndarray:
    """int16 [344, 403], elevations in metres."""
    from matplotlib import get_data_path  # late: other tasks need not wait for it

    with np.load(Path(get_data_path(), "sample_data", "jacksboro_fault_dem.npz"), allow_pickle=False) as archive:
        return np.ascontiguousarray(archive["elevation"])
