"""The MNIST-1D data set, generated here number for number as by its authors.

The templates and the transformations are those of https://github.com/greydanus/mnist1d (Sam Greydanus and Peter
Steinbach, Apache-2.0; package mnist1d 0.0.2.post1, `data.py` and `transform.py`), with their order of random draws from
numpy's legacy generator, which numpy keeps stable: seed 42 gives the published data.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tasks.base import data_fingerprint

NUM_CLASSES = 10
NUM_PER_CLASS = 500
NUM_TEST = 1000
LENGTH = 40
PADDED = 72
MIN_PADDING, MAX_PADDING = 36, 60
MAX_TRANSLATION = 48
SCALE, SHEAR, CORRELATED_NOISE, NOISE = 0.4, 0.75, 0.25, 0.02
SEED = 42
TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)

Signal = npt.NDArray[np.float64]


def load_mnist1d_splits(num_val: int) -> tuple[dict[str, tuple[Tensor, ...]], str]:
    """For each split signals float32 [N, 40] and labels int64 [N]; and the data's fingerprint.

    The test split is the authors' own; the last `num_val` of their 4,000 training signals validate.
    """
    signals, labels = generate()
    x, y = torch.from_numpy(signals).float(), torch.from_numpy(labels)
    num_train = len(x) - NUM_TEST - num_val
    cuts = {"train": slice(0, num_train), "val": slice(num_train, -NUM_TEST), "test": slice(-NUM_TEST, None)}
    splits: dict[str, tuple[Tensor, ...]] = {name: (x[part], y[part]) for name, part in cuts.items()}
    return splits, data_fingerprint(task="mnist1d", seed=SEED, num_val=num_val)


def generate() -> tuple[Signal, npt.NDArray[np.int64]]:
    """Signals [5000, 40], standardised, and their classes, in random order.

    Every signal has noise where the template is not, some everywhere, and a slope.
    """
    from scipy.ndimage import gaussian_filter1d  # late: other tasks need not wait for it

    random = np.random.RandomState(SEED)
    templates = np.array(TEMPLATES, dtype=float)
    templates -= templates.mean(1, keepdims=True)
    templates /= templates.std(1, keepdims=True)
    templates = (templates - templates[:, :1]) / 6.0
    labels = np.repeat(np.arange(NUM_CLASSES), NUM_PER_CLASS)
    shapes, noises, slopes = (
        np.stack(parts) for parts in zip(*(_draw(templates[k], random) for k in labels), strict=True)
    )
    background = gaussian_filter1d(CORRELATED_NOISE * noises[:, 0], 2, axis=1)
    signals = np.where(shapes != 0, shapes, background) + NOISE * noises[:, 1]
    signals -= slopes[:, None] * np.linspace(-0.5, 0.5, PADDED)
    signals = np.stack([_stretch(signal, LENGTH) for signal in signals])
    order = random.permutation(len(labels))
    signals = signals[order]
    return (signals - signals.mean()) / signals.std(), labels[order]


def _draw(template: Signal, random: np.random.RandomState) -> tuple[Signal, Signal, float]:
    """One template padded, stretched, scaled and moved [72]; two rows of noise [2, 72]; and a slope."""
    padding = MIN_PADDING + int(random.rand() * (MAX_PADDING - MIN_PADDING + 1))
    shape = _stretch(np.concatenate([template + 1e-8, np.zeros(padding)]), PADDED)
    shape = shape * (1 + SCALE * (random.rand() - 0.5))
    shift = random.choice(MAX_TRANSLATION)
    shape = np.concatenate([shape[-shift:], shape[:-shift]])
    noise = np.stack([random.randn(PADDED), random.randn(PADDED)])
    return shape, noise, SHEAR * (random.rand() - 0.5)


def _stretch(signal: Signal, length: int) -> Signal:
    return np.interp(_grid(length), _grid(len(signal)), signal)


@cache
def _grid(length: int) -> Signal:
    return np.linspace(0, 1, length)
