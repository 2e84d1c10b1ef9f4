"""Parameters of K trials that one call updates, with their gradients and their state, on buffers with a leading axis K.

`bench.training.rule_bucket` has that for update rules of ours, `bench.training.foreign` that for any other optimizer.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.training.probes import SecondMoment


class Bucket(ABC):
    """What `EnsembleOptimizer` asks of parameters that are updated together.

    Attributes:
        shapes: each parameter's shape by name, without K.
        param: the values of all, `[K, ...]`, of which `leaves` are views, leaves of autograd by name.
        grad: likewise their gradients, with `grad_views`.
        last_lr: of the last step, `[K]` or one for every group or entry, `[K, ...]`.
    """

    shapes: Mapping[str, torch.Size]
    param: Tensor
    last_lr: Tensor

    @abstractmethod
    def pieces(self, buffer: Tensor) -> Sequence[Tensor]:
        """The part of each parameter in a buffer laid out as `param`."""

    @abstractmethod
    def split(self, names: Collection[str]) -> Iterator["Bucket"]:
        """This bucket as it goes on where the parameters among `names` are to be told from the others."""

    def leave_out(self, names: Collection[str]) -> None:  # noqa: B027  # a rule's bucket has all or none of them
        """The parameters among `names` have no gradient, from the next step on."""

    @abstractmethod
    def step(self, lr_factor: float | Tensor) -> None:
        """Update all trials by their gradients."""

    def param_lrs(self) -> Sequence[Tensor]:
        """The lr of each parameter in the last step, `[K]`."""
        return [self.last_lr] * len(self.shapes)

    @abstractmethod
    def seconds(self) -> Sequence[SecondMoment | None]:
        """The second moment of each parameter, None where there is none."""

    @abstractmethod
    def state_bytes(self) -> int:
        """Bytes of state per trial."""

    @abstractmethod
    def state_dict(self) -> Mapping[str, object]:
        """All that changes from step to step, and the parameters' `names`."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def set_mode(self, mode: str) -> None:  # noqa: B027  # most have one set of weights
        """Told before an evaluation (`eval`) and after it (`train`)."""

    def keep(self, positions: Tensor) -> None:
        """Go on with the trials at `positions`, an int64 tensor."""
        self.param, self.last_lr = self.param[positions], self.last_lr[positions]
        self.make_leaves()

    def make_leaves(self) -> None:
        """Views of the buffers in the model's shapes."""
        self.grad = torch.zeros_like(self.param)
        self.grad_views = dict(zip(self.shapes, self.views(self.grad), strict=True))
        views = zip(self.shapes, self.views(self.param), strict=True)
        self.leaves = {name: view.detach().requires_grad_() for name, view in views}

    def views(self, buffer: Tensor) -> list[Tensor]:
        shapes = zip(self.pieces(buffer), self.shapes.values(), strict=True)
        return [piece.view(len(buffer), *shape) for piece, shape in shapes]

    def check_names(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError where a saved state is that of other parameters."""
        if list(self.shapes) != state["names"]:
            raise ValueError(f"expected {', '.join(self.shapes)}; it has {', '.join(state['names'])}")
