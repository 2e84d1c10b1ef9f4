"""A three-layer perceptron on scikit-learn's handwritten digits."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import ClassificationTask, init_for_relu_
from tasks.digits import NUM_CLASSES, NUM_VAL, SIZE, load_digits_splits
from tasks.options import check_int
from tasks.tensors import TensorTask


class MLP(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(SIZE**2, width)
        self.hidden2 = nn.Linear(width, width)
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [B, 10] of flat images [B, 64]."""
        x = F.relu(self.hidden1(pixels.to(self.hidden1.weight.dtype)))
        return self.head(F.relu(self.hidden2(x)))  # type: ignore[no-any-return]


class MLPTask(TensorTask, ClassificationTask):
    """Classify scikit-learn's 8x8 digits (see `tasks.digits`).

    Args:
        width: Units in each of the two hidden layers.
        split_seed: Seed of the splits; a trial's own seed never moves them.
        batch_size: Images per batch.
    """

    num_eval = eval_chunk = NUM_VAL

    def __init__(self, *, width: int, split_seed: int, batch_size: int, device: torch.device) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("width", width, 1, 16384)
        self.width = width
        splits, self.fingerprint = load_digits_splits(split_seed)
        self.hold(splits)

    def make_model(self) -> nn.Module:
        """The perceptron 64-width-width-10."""
        return MLP(self.width)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """As He et al. 2015 for ReLU; the head small, for an even prediction at the start."""
        init_for_relu_(name, label, parameter, generator)
