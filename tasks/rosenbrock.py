"""The chained Rosenbrock function: a curved, narrow valley in many dimensions."""

import torch
from torch import Tensor, nn

from tasks.base import Batch, Task, data_fingerprint
from tasks.options import check_int


class RosenbrockPoint(nn.Module):
    """A point of the search space, one vector `x` [dimensions]."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.empty(dimensions))

    def forward(self) -> Tensor:
        """The point itself."""
        return self.x


class RosenbrockTask(Task):
    """Minimise sum_i 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2, which is 0 at x = (1, ..., 1) only, and deterministic.

    Trials start near the origin, in the valley, each seed at its own point. The only parameter is a vector: rules for
    matrices have nothing to do here.

    Args:
        dimensions: Length of x.
        batch_size: No effect: there is nothing to sample.
    """

    validation_is_truth = True
    num_train = 1
    num_val = 1
    num_eval = 1
    eval_chunk = 1

    def __init__(self, *, dimensions: int, batch_size: int, device: torch.device) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("dimensions", dimensions, 2, 10**6)
        self.dimensions = dimensions
        self.fingerprint = data_fingerprint(task="rosenbrock", dimensions=dimensions)

    def make_model(self) -> nn.Module:
        """The point to move."""
        return RosenbrockPoint(self.dimensions)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """Normal of standard deviation 0.1 around the origin."""
        parameter.normal_(0.0, 0.1, generator=generator)

    def batch(self, split: str, index: Tensor) -> Batch:
        """The index, on the device: the loss depends on no data."""
        return index.to(self.device)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The function's value, its excess over the optimum."""
        x: Tensor = model()
        return (100.0 * (x[1:] - x[:-1].square()).square() + (1.0 - x[:-1]).square()).sum()
