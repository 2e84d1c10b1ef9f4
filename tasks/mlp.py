"""A three-layer perceptron on scikit-learn's handwritten digits."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import Batch, ClassificationTask, data_fingerprint, init_for_relu_
from tasks.options import check_int

SIZE = 8
NUM_CLASSES = 10
NUM_VAL, NUM_TEST = 500, 400


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


def shift_images(pixels: Tensor) -> Tensor:
    """All images [N, 64] shifted by -1, 0 and 1 pixels along both axes: [9, N, 64]; background (-1) comes in."""
    padded = F.pad(pixels.view(-1, SIZE, SIZE), (1, 1, 1, 1), value=-1.0)
    windows = padded.unfold(1, SIZE, 1).unfold(2, SIZE, 1)  # [N, 3, 3, 8, 8]
    return windows.permute(1, 2, 0, 3, 4).reshape(9, -1, SIZE**2)


class MLPTask(ClassificationTask):
    """Classify the 1,797 real 8x8 images of `sklearn.datasets.load_digits`, which come inside the package.

    A permutation drawn from `split_seed` leaves 500 images for validation and 400 for the test; a trial's own seed
    never moves the split. The other 897 train, each also shifted by one pixel in all eight directions: the plain ones
    alone are learned by heart within some 150 steps, after which the loss says nothing more about an optimizer.

    Args:
        width: Units in each of the two hidden layers.
        split_seed: Seed of the split.
        batch_size: Images per batch.
    """

    num_val, num_test = NUM_VAL, NUM_TEST
    num_eval = NUM_VAL
    eval_chunk = NUM_VAL

    def __init__(self, *, width: int, split_seed: int, batch_size: int, device: torch.device) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("width", width, 1, 16384)
        check_int("split_seed", split_seed, 0, 2**31 - 1)
        from sklearn.datasets import load_digits  # late: a second of import that other tasks need not pay

        digits = load_digits()
        order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(split_seed))
        pixels = torch.tensor(digits.data, dtype=torch.float32)[order] / 8.0 - 1.0  # 0..16 to -1..1
        labels = torch.tensor(digits.target, dtype=torch.int64)[order]
        sizes = [NUM_VAL, NUM_TEST, len(labels) - NUM_VAL - NUM_TEST]
        self._pixels = dict(zip(("val", "test", "train"), torch.split(pixels.to(device), sizes), strict=True))
        self._labels = dict(zip(("val", "test", "train"), torch.split(labels.to(device), sizes), strict=True))
        shifted = shift_images(self._pixels["train"])
        self._pixels["train"] = shifted.flatten(0, 1)
        self._labels["train"] = self._labels["train"].repeat(len(shifted))
        self.width = width
        self.num_train = len(self._labels["train"])
        self.fingerprint = data_fingerprint(
            digits.data.tobytes(),
            digits.target.tobytes(),
            order.numpy().tobytes(),
            num_val=NUM_VAL,
            num_test=NUM_TEST,
            num_shifts=len(shifted),
        )

    def make_model(self) -> nn.Module:
        """The perceptron 64-width-width-10."""
        return MLP(self.width)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """As He et al. 2015 for ReLU; the head small, for an even prediction at the start."""
        init_for_relu_(name, label, parameter, generator)

    def batch(self, split: str, index: Tensor) -> Batch:
        """Flat images [B, 64] within [-1, 1] and their labels [B]."""
        index = index.to(self.device)  # an embedding copies whole rows, also under vmap; indexing goes by element
        return F.embedding(index, self._pixels[split]), self._labels[split][index]
