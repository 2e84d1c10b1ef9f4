"""An ill-conditioned quadratic with a known optimum, over one matrix and one vector."""

import torch
from torch import Tensor, nn

from tasks.base import Batch, Task, data_fingerprint
from tasks.options import check_float, check_int

PROBLEM_SEED = 0
"""Draws the rotation, the optimum and the noise: one problem for everybody, whatever a trial's seed."""

SCALE = 0.1
"""Standard deviation of the optimum's and the start's coordinates: that of a small network's weights, for usual lr."""

NUM_NOISE_EXAMPLES = 1024
MAX_NOISE = 2**28


class QuadraticPoint(nn.Module):
    """A point of the search space: `weight` [rows, columns] and `bias` [rows]."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        self.bias = nn.Parameter(torch.empty(rows))

    def forward(self) -> Tensor:
        """Matrix and vector side by side: [rows, columns + 1]."""
        return torch.cat([self.weight, self.bias.unsqueeze(1)], dim=1)


class QuadraticTask(Task):
    """Minimise 0.5 tr((X - X*)^T A (X - X*)) over X = [weight, bias].

    A [rows, rows] has eigenvalues spaced evenly in logarithm from 1 / `condition_number` to 1, in a random rotation, so
    no coordinate is aligned with an eigenvector. The loss is the excess over the optimum, which is 0 at X*.

    Gradient noise is that of a finite sum: example i adds <noise_i, X - X*>. The table of noise_i sums to zero, so X*
    remains the exact optimum, and the index of a batch carries all of its randomness.

    Args:
        rows: Rows of `weight`, and the length of `bias`.
        columns: Columns of `weight`.
        condition_number: Largest over smallest eigenvalue of A.
        noise: Standard deviation of each coordinate of one example's gradient around the exact gradient.
        batch_size: Examples averaged in a batch, which matters only with noise.
    """

    validation_is_truth = True
    num_val = 1
    num_eval = 1
    eval_chunk = 1

    def __init__(
        self, *, rows: int, columns: int, condition_number: float, noise: float, batch_size: int, device: torch.device
    ) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("rows", rows, 2, 4096)
        check_int("columns", columns, 1, 4096)
        check_float("condition_number", condition_number, 1.0, 1e12)
        check_float("noise", noise, 0.0, 1e6)
        self.rows, self.columns = rows, columns
        shape = (rows, columns + 1)
        self.num_train = NUM_NOISE_EXAMPLES if noise else 1
        if (size := self.num_train * rows * (columns + 1)) > MAX_NOISE:
            text = f"task.rows={rows} times task.columns={columns} are too many to add noise"
            raise ValueError(f"{text}: {size} numbers, at most {MAX_NOISE}")
        generator = torch.Generator().manual_seed(PROBLEM_SEED)
        rotation = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64)).Q
        root_spectrum = torch.logspace(0.0, -0.5, rows, base=condition_number, dtype=torch.float64)
        # A = root^T root: through the root the loss is a sum of squares, accurate and never negative near the optimum.
        self._root = (root_spectrum.unsqueeze(1) * rotation.T).float().to(device)
        self.optimum = (SCALE * torch.randn(shape, generator=generator)).to(device)
        table = torch.randn(self.num_train, *shape, generator=generator)
        self._noise = (noise * (table - table.mean(0))).to(device)
        self.fingerprint = data_fingerprint(
            task="quadratic",
            rows=rows,
            columns=columns,
            condition_number=condition_number,
            noise=noise,
            scale=SCALE,
            seed=PROBLEM_SEED,
        )

    def make_model(self) -> nn.Module:
        """The point to move."""
        return QuadraticPoint(self.rows, self.columns)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """Normal, as the optimum itself."""
        parameter.normal_(0.0, SCALE, generator=generator)

    def batch(self, split: str, index: Tensor) -> Batch:
        """Mean noise of the examples, [rows, columns + 1]; none in validation."""
        if split == "val":
            return torch.zeros_like(self.optimum)
        return self._noise[index.to(self.device)].mean(0)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Excess over the optimum, plus the batch's noise term."""
        assert isinstance(batch, Tensor)
        point: Tensor = model()
        residual = point - self.optimum.to(point.dtype)
        with torch.autocast(self.device.type, enabled=False):  # the objective is no layer of a network
            excess: Tensor = 0.5 * (self._root.to(point.dtype) @ residual).square().sum()
            return excess + (batch.to(point.dtype) * residual).sum()
