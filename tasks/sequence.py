"""MNIST-1D: ten shapes of one dimension, to be told apart by a convolutional or a recurrent net."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import ClassificationTask
from tasks.mnist1d import LENGTH, NUM_CLASSES, load_mnist1d_splits
from tasks.options import check_choice, check_int
from tasks.recurrent import GRU
from tasks.tensors import TensorTask

NUM_VAL = 500


class ConvNet(nn.Module):
    """Three strided convolutions and a head, the paper's own (its code, `models.py`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, width, 5, stride=2, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.head = nn.Linear(width * 5, NUM_CLASSES)

    def forward(self, signals: Tensor) -> Tensor:
        """Logits [B, 10] of signals [B, 40]."""
        x = signals.to(self.head.weight.dtype).unsqueeze(1)
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(x))
        return self.head(x.flatten(1))  # type: ignore[no-any-return]


class RecurrentNet(nn.Module):
    """Gated recurrent units along the signal, and a head on all of their states."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.recurrent = GRU(1, width)
        self.head = nn.Linear(LENGTH * width, NUM_CLASSES)

    def forward(self, signals: Tensor) -> Tensor:
        """Logits [B, 10] of signals [B, 40]."""
        states = self.recurrent(signals.to(self.head.weight.dtype).unsqueeze(-1))
        return self.head(states.flatten(1))  # type: ignore[no-any-return]


class SequenceTask(TensorTask, ClassificationTask):
    """Classify the signals of MNIST-1D (Greydanus and Kobak 2024, arXiv 2011.14439), generated as its authors do.

    Published test accuracies, of nets trained for 6,000 steps: logistic regression 32 %, perceptron 68 %, GRU 91 %,
    convolutional net 94 %.

    Args:
        model: `cnn` or `gru`.
        width: Channels, or units.
        batch_size: Signals per batch.
    """

    num_eval = eval_chunk = NUM_VAL

    def __init__(self, *, model: str, width: int, batch_size: int, device: torch.device) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_choice("model", model, ("cnn", "gru"))
        check_int("width", width, 1, 4096)
        self.net, self.width = {"cnn": ConvNet, "gru": RecurrentNet}[model], width
        splits, self.fingerprint = load_mnist1d_splits(NUM_VAL)
        self.hold(splits)

    def make_model(self) -> nn.Module:
        """The net."""
        return self.net(self.width)
