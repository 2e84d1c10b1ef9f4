"""A physics-informed network: Poisson's equation on the unit square, whose solution is known."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from tasks.base import Batch, Task, data_fingerprint
from tasks.options import check_float, check_int

RESOLUTION = 2**24
GRID = 33
"""Points per axis of the grid on which the error is measured."""


class TanhNet(nn.Module):
    """A tanh perceptron that carries its first and second derivatives by both coordinates along, exactly."""

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        sizes = [2, *[width] * num_layers]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.head = nn.Linear(width, 1)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """u [B] and its Laplacian [B] at points [B, 2]."""
        x = points.to(self.head.weight.dtype)
        slope = torch.eye(2, dtype=x.dtype, device=x.device).unsqueeze(1).expand(2, *x.shape)  # du/dx, du/dy
        curve = torch.zeros_like(slope)
        for layer in self.layers:
            x, slope, curve = torch.tanh(layer(x)), slope @ layer.weight.T, curve @ layer.weight.T  # type: ignore[operator]
            inner = 1.0 - x.square()
            curve = inner * curve - 2.0 * x * inner * slope.square()
            slope = inner * slope
        return self.head(x).squeeze(-1), (curve @ self.head.weight.T).sum(0).squeeze(-1)


class PoissonTask(Task):
    """Solve -(u_xx + u_yy) = f with u = 0 on the border of the unit square, for u* = sin(pi x) sin(pi y).

    The loss is the mean squared residual at random inner points plus `boundary_weight` times the mean of u^2 at random
    border points. `error` is the squared relative L2 error against u* on a grid of 33 x 33: the network is judged by
    what it was not told. Mueller and Zeinhofer 2023, arXiv 2302.13163: on this problem Adam and BFGS stall at relative
    errors of 1e-3 to 1e-4 (squared 1e-6 to 1e-8), natural gradients do not.

    Args:
        width: Units in each hidden layer.
        num_layers: Hidden layers.
        boundary_weight: Weight of the border's part of the loss.
        batch_size: Inner points per batch, and as many on the border.
    """

    metric_names = ("loss", "error")
    validation_is_truth = True
    num_train = RESOLUTION
    num_val = num_eval = eval_chunk = 1

    def __init__(
        self, *, width: int, num_layers: int, boundary_weight: float, batch_size: int, device: torch.device
    ) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("width", width, 1, 4096)
        check_int("num_layers", num_layers, 1, 64)
        check_float("boundary_weight", boundary_weight, 0.0, 1e9)
        self.width, self.num_layers, self.boundary_weight = width, num_layers, boundary_weight
        axis = torch.linspace(0.0, 1.0, GRID, device=device)
        self._grid = torch.cartesian_prod(axis, axis)
        along = torch.stack([axis, torch.zeros_like(axis)], dim=1)
        self._border = torch.cat([along, along.flip(1), 1.0 - along, 1.0 - along.flip(1)])
        self.fingerprint = data_fingerprint(task="poisson_pinn", grid=GRID)

    def make_model(self) -> nn.Module:
        """The tanh perceptron."""
        return TanhNet(self.width, self.num_layers)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """Glorot and Bengio 2010, zero biases."""
        if label == "vector":
            parameter.zero_()
        else:
            parameter.normal_(0.0, math.sqrt(2.0 / sum(parameter.shape)), generator=generator)

    def sample(self, generator: torch.Generator) -> Tensor:
        """int64 [B, 4] on the CPU: an inner point, a place along the border, and one of its four sides."""
        return torch.randint(RESOLUTION, (self.batch_size, 4), generator=generator)

    def batch(self, split: str, index: Tensor) -> Batch:
        """Inner points [B, 2] and border points [B, 2]; for validation the grid and its border."""
        if split != "train":
            return self._grid, self._border
        index = index.to(self.device)
        places = (index.float() + 0.5) / RESOLUTION
        first, second = places[:, 2], index[:, 3].remainder(4)
        level = (second // 2).to(places.dtype)
        upright = (second % 2).bool()
        return places[:, :2], torch.stack([first.where(upright, level), level.where(upright, first)], dim=1)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Squared residual in the interior plus the weighted square on the border."""
        inner, border = batch
        _, laplacian = model(inner)
        edge, _ = model(border)
        solution = exact_solution(inner.to(laplacian.dtype))
        residual = laplacian + 2.0 * math.pi**2 * solution
        loss: Tensor = residual.square().mean() + self.boundary_weight * edge.square().mean()
        return loss

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and `error`: the squared relative L2 error against the solution."""
        points, _ = batch
        found, _ = model(points)
        solution = exact_solution(points.double())
        error = (found.double() - solution).square().mean() / solution.square().mean()
        return {"loss": self.loss(model, batch), "error": error}


def exact_solution(points: Tensor) -> Tensor:
    """u* [B] at points [B, 2]."""
    waves = torch.sin(math.pi * points)
    product: Tensor = waves[:, 0] * waves[:, 1]
    return product
