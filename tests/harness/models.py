"""Small models with what users' models have: buffers, ties, normalisation, dropout, recurrence, frozen layers."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import Batch, ClassificationTask
from tasks.recurrent import GRU

NUM_CLASSES, NUM_EXAMPLES = 3, 48


class ModelTask(ClassificationTask):
    """Any model on random inputs of `shape`, integers where the model embeds them."""

    num_train = num_val = num_test = num_eval = NUM_EXAMPLES
    eval_chunk = 20
    fingerprint = "0"

    def __init__(self, make: Callable[[], nn.Module], shape: tuple[int, ...], *, tokens: bool = False) -> None:
        super().__init__(batch_size=8, device=torch.device("cpu"))
        self.make = make
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(NUM_EXAMPLES, *shape, generator=generator)
        if tokens:
            self.inputs = torch.randint(NUM_CLASSES, (NUM_EXAMPLES, *shape), generator=generator)
        self.labels = torch.randint(NUM_CLASSES, (NUM_EXAMPLES,), generator=generator)

    def make_model(self) -> nn.Module:
        return self.make()

    def batch(self, split: str, index: Tensor) -> Batch:
        return self.inputs[index], self.labels[index]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return super().loss(model, self._cast(model, batch))

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return super().metrics(model, self._cast(model, batch))

    @staticmethod
    def _cast(model: nn.Module, batch: Batch) -> Batch:
        inputs, labels = batch
        dtype = next(model.parameters()).dtype
        return (inputs.to(dtype) if inputs.is_floating_point() else inputs), labels


class NormBlock(nn.Module):
    """Two convolutions behind BatchNorm, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


def resnet() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(stem, NormBlock(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, NUM_CLASSES))


def dropout_net() -> nn.Module:
    first = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(first, nn.Linear(16, 16), nn.SELU(), nn.AlphaDropout(0.2), nn.Linear(16, NUM_CLASSES))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = GRU(5, 6), nn.Linear(6, NUM_CLASSES)

    def forward(self, sequence: Tensor) -> Tensor:
        return self.head(self.gru(sequence)[:, -1])


class Partial(nn.Module):
    """A frozen layer, a layer that the loss does not use, and one that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.unused = nn.Linear(6, 8).requires_grad_(False), nn.Linear(8, 8)
        self.middle, self.head = nn.Linear(8, 8), nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.middle(F.relu(self.frozen(x)))))


class Tied(nn.Module):
    """An embedding that is also the head, a buffer, a plain tensor and an initialisation of the author's own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(NUM_CLASSES, 8), nn.Linear(8, NUM_CLASSES)
        self.head.weight = self.embedding.weight
        self.register_buffer("gain", torch.full((8,), 2.0))
        self.direction = torch.randn(8)
        nn.init.constant_(self.head.bias, 0.25)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head((self.embedding(tokens) * self.gain + self.direction).mean(1))


class AttentionDropout(nn.Module):
    """Attention whose weights are dropped, channels that are dropped whole, and noise."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value, self.head = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, NUM_CLASSES)

    def forward(self, sequence: Tensor) -> Tensor:
        query, value = self.query(sequence), self.value(sequence)
        x = F.scaled_dot_product_attention(query, query, value, dropout_p=0.3 if self.training else 0.0, is_causal=True)
        x = F.dropout1d(x, 0.2, self.training)
        x = x + 0.1 * torch.randn_like(x) if self.training else x
        return self.head(x.mean(1))


def convolution() -> nn.Module:
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, NUM_CLASSES))


TASKS = {
    "resnet with BatchNorm": lambda: ModelTask(resnet, (3, 6, 6)),
    "dropout": lambda: ModelTask(dropout_net, (6,)),
    "attention dropout": lambda: ModelTask(AttentionDropout, (4, 5)),
    "gru": lambda: ModelTask(Recurrent, (4, 5)),
    "frozen and unused": lambda: ModelTask(Partial, (6,)),
    "tied": lambda: ModelTask(Tied, (4,), tokens=True),
    "channels_last": lambda: ModelTask(lambda: convolution().to(memory_format=torch.channels_last), (3, 6, 6)),
}
