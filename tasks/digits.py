"""Scikit-learn's handwritten digits, cut once for every task that uses them."""

import gzip
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.base import data_fingerprint
from tasks.options import check_int
from tasks.tensors import cut, package_file, shuffled

SIZE = 8
NUM_CLASSES = 10
NUM_VAL, NUM_TEST = 500, 400


def shift_images(pixels: Tensor) -> Tensor:
    """All images [N, 64] shifted by -1, 0 and 1 pixels along both axes: [9, N, 64]; background (-1) comes in."""
    padded = F.pad(pixels.view(-1, SIZE, SIZE), (1, 1, 1, 1), value=-1.0)
    windows = padded.unfold(1, SIZE, 1).unfold(2, SIZE, 1)  # [N, 3, 3, 8, 8]
    return windows.permute(1, 2, 0, 3, 4).reshape(9, -1, SIZE**2)


@cache
def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """What `sklearn.datasets.load_digits` returns as data float64 [1797, 64], 0 to 16, and target int64 [1797].

    From the file inside the package, which is not imported: that takes a second.
    """
    with gzip.open(package_file("sklearn", "datasets/data/digits.csv.gz", "scikit-learn"), "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, :-1], table[:, -1].astype(int)


def load_digits_splits(split_seed: int) -> tuple[dict[str, tuple[Tensor, ...]], str]:
    """The 1,797 real 8x8 images of `sklearn.datasets.load_digits`, which come inside the package.

    A permutation drawn from `split_seed` leaves 500 images for validation and 400 for the test. The other 897 train,
    each also shifted by one pixel in all eight directions: the plain ones alone are learned by heart within some 150
    steps, after which the loss says nothing more about an optimizer.

    Returns:
        For each split flat images float32 [N, 64] within [-1, 1] and labels int64 [N]; and the data's fingerprint.

    Raises:
        ValueError: a seed that is not allowed.
    """
    check_int("split_seed", split_seed, 0, 2**31 - 1)
    data, target = read_digits()
    order = shuffled(len(target), split_seed)
    pixels = torch.tensor(data, dtype=torch.float32)[order] / 8.0 - 1.0  # 0..16 to -1..1
    labels = torch.tensor(target, dtype=torch.int64)[order]
    splits = cut(pixels, labels, num_val=NUM_VAL, num_test=NUM_TEST)
    images, classes = splits["train"]
    shifted = shift_images(images)
    splits["train"] = shifted.flatten(0, 1), classes.repeat(len(shifted))
    fingerprint = data_fingerprint(
        data.tobytes(),
        target.tobytes(),
        order.numpy().tobytes(),
        num_val=NUM_VAL,
        num_test=NUM_TEST,
        num_shifts=len(shifted),
    )
    return splits, fingerprint
