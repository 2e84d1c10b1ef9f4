"""A small residual convolutional net on CIFAR-10."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import OptionError
from tasks.base import Batch, ClassificationTask, data_fingerprint, init_for_relu_
from tasks.cifar_archive import NUM_CLASSES, load_cifar
from tasks.options import check_int

SIZE = 32
PADDING = 4
GROUP_CHANNELS = 8
NUM_STAGES = 3
RANDOM_RANGE = 2**40
VAL_SHARE = 10
"""One training image in so many validates."""

MEAN, STD = 120.7, 64.2
"""Of all pixels of CIFAR-10's training images, within 0..255."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each behind GroupNorm and ReLU, with a 1x1 shortcut where shapes change.

    He et al. 2016, arXiv 1603.05027, figure 1b ("pre-activation").
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(in_channels // GROUP_CHANNELS, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(out_channels // GROUP_CHANNELS, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes_shape else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] to [B, out, H / stride, W / stride]."""
        activated = F.relu(self.norm1(x))
        x = self.shortcut(activated if isinstance(self.shortcut, nn.Conv2d) else x)
        return x + self.conv2(F.relu(self.norm2(self.conv1(activated))))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """A stem, three stages that halve the resolution and double the channels, mean pooling and a head."""

    def __init__(self, width: int, num_blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        blocks, channels = [], width
        for stage in range(NUM_STAGES):
            for block in range(num_blocks):
                out_channels = width * 2**stage
                blocks.append(ResidualBlock(channels, out_channels, stride=2 if stage and not block else 1))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.GroupNorm(channels // GROUP_CHANNELS, channels)
        self.head = nn.Linear(channels, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 10] of uint8 images [B, 3, 32, 32]."""
        x = (images.to(self.stem.weight.dtype) - MEAN) / STD
        x = self.blocks(self.stem(x))
        return self.head(F.relu(self.norm(x)).mean((2, 3)))  # type: ignore[no-any-return]


class CIFARTask(ClassificationTask):
    """Classify CIFAR-10's 32x32 colour images; its test batch is the test split.

    The last tenth of the training images validates (of 50,000 images 5,000, as in He et al. 2015, arXiv 1512.03385,
    section 4.2); the files are in random order as they come.

    Training images are flipped with probability 1/2 and cropped out of the image padded by 4 reflected pixels on each
    side. Both are part of one gather on the device.

    Args:
        path: Folder or archive in the original layout; None downloads it once.
        width: Channels of the first stage, a multiple of 8 (the channels in a group of GroupNorm).
        num_blocks: Residual blocks in each of the three stages.
        batch_size: Images per batch.
    """

    num_eval = 1000
    eval_chunk = 250

    def __init__(self, *, path: str | None, width: int, num_blocks: int, batch_size: int, device: torch.device) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("num_blocks", num_blocks, 1, 64)
        check_int("width", width, GROUP_CHANNELS, 4096)
        if width % GROUP_CHANNELS:
            raise OptionError("width", width, f"expected a multiple of {GROUP_CHANNELS}")
        self.width, self.num_blocks = width, num_blocks
        splits = load_cifar(path)
        num_val = -(-len(splits["train"][1]) // VAL_SHARE)
        images, labels = splits.pop("train")
        splits |= {"train": (images[:-num_val], labels[:-num_val]), "val": (images[-num_val:], labels[-num_val:])}
        padding = ((0, 0), (0, 0), (PADDING, PADDING), (PADDING, PADDING))
        padded = {**splits, "train": (np.pad(splits["train"][0], padding, mode="reflect"), splits["train"][1])}
        self._images = {split: torch.from_numpy(images).to(device) for split, (images, _) in padded.items()}
        self._labels = {split: torch.from_numpy(labels).to(device) for split, (_, labels) in padded.items()}
        self._pixels = torch.arange(SIZE, device=device)
        self._channels = torch.arange(3, device=device).view(3, 1, 1)
        self.num_train, self.num_val, self.num_test = (len(splits[split][0]) for split in ("train", "val", "test"))
        # One draw for a whole batch; the modulo's bias is below 1e-7.
        offsets = 2 * PADDING + 1
        self._ranges = torch.tensor([self.num_train, 2, offsets, offsets])
        data = [array.tobytes() for split in ("train", "val", "test") for array in splits[split]]
        self.fingerprint = data_fingerprint(*data, padding=PADDING, num_val=num_val)

    def make_model(self) -> nn.Module:
        """The residual net."""
        return ResNet(self.width, self.num_blocks)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """As He et al. 2015 for ReLU; the head small, for an even prediction at the start."""
        init_for_relu_(name, label, parameter, generator)

    def sample(self, generator: torch.Generator) -> Tensor:
        """int64 [B, 4] on the CPU: image, flip (0 or 1), first row and first column of the crop (0 to 8)."""
        return torch.randint(RANDOM_RANGE, (self.batch_size, 4), generator=generator).remainder_(self._ranges)

    def batch(self, split: str, index: Tensor) -> Batch:
        """Images uint8 [B, 3, 32, 32] and labels [B]; flipped and cropped for `train`."""
        index = index.to(self.device)
        if split != "train":
            return self._images[split][index], self._labels[split][index]
        image, flip, top, left = index.view(-1, 4, 1, 1, 1).unbind(1)
        rows = top + self._pixels.view(-1, 1)
        columns = left + (self._pixels - flip * (SIZE - 1)).abs()
        return self._images["train"][image, self._channels, rows, columns], self._labels["train"][image.flatten()]
