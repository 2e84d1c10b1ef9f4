"""An image as a function: a sine perceptron from coordinates to colours."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import Batch, data_fingerprint
from tasks.options import check_choice, check_float, check_int
from tasks.tensors import TensorTask, cut, shuffled

SHRINK = 4
SPLIT_SEED = 0
HELD_OUT_SHARE = 10
"""One pixel in so many validates, and as many test."""


class SineMLP(nn.Module):
    """SIREN (Sitzmann et al. 2020, arXiv 2006.09661): linear layers with sin(frequency * x) between them."""

    def __init__(self, width: int, num_layers: int, frequency: float) -> None:
        super().__init__()
        sizes = [2, *[width] * num_layers]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.head = nn.Linear(width, 3)
        self.frequency = frequency

    def forward(self, points: Tensor) -> Tensor:
        """Colours [B, 3] at coordinates [B, 2], each within [-1, 1]."""
        x = points.to(self.head.weight.dtype)
        for layer in self.layers:
            x = torch.sin(self.frequency * layer(x))
        return self.head(x)  # type: ignore[no-any-return]


class ImageTask(TensorTask):
    """Regress the colours of a photograph on its coordinates; pixels never seen validate and test.

    The images are scikit-learn's samples, shrunk by 4 to 106 x 160: `china` is a photo by 螺丝钉 and `flower` one by
    dany13, both under CC BY 2.0 (see `sklearn.datasets.load_sample_images`). The loss is the mean squared error of
    colours within [-1, 1]: the peak signal-to-noise ratio is 10 log10(4 / loss) decibels.

    Args:
        image: `china` or `flower`.
        width: Units in each hidden layer.
        num_layers: Hidden layers.
        frequency: Factor within each sine, the paper's omega_0.
        batch_size: Pixels per batch.
    """

    num_eval = eval_chunk = 2048

    def __init__(
        self, *, image: str, width: int, num_layers: int, frequency: float, batch_size: int, device: torch.device
    ) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_choice("image", image, ("china", "flower"))
        check_int("width", width, 1, 4096)
        check_int("num_layers", num_layers, 1, 64)
        check_float("frequency", frequency, 1e-3, 1e3)
        self.width, self.num_layers, self.frequency = width, num_layers, frequency
        from sklearn.datasets import load_sample_image  # late: other tasks need not wait for it

        pixels = load_sample_image(f"{image}.jpg")
        colours = torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1) / 127.5 - 1.0
        colours = F.avg_pool2d(colours, SHRINK)
        rows, columns = (torch.linspace(-1.0, 1.0, size) for size in colours.shape[1:])
        points = torch.cartesian_prod(rows, columns)
        order = shuffled(len(points), SPLIT_SEED)
        held_out = len(points) // HELD_OUT_SHARE
        colours = colours.flatten(1).T[order]
        self.hold(cut(points[order], colours, num_val=held_out, num_test=held_out))
        self.fingerprint = data_fingerprint(pixels.tobytes(), shrink=SHRINK, split_seed=SPLIT_SEED, held_out=held_out)

    def make_model(self) -> nn.Module:
        """The sine perceptron."""
        return SineMLP(self.width, self.num_layers, self.frequency)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """SIREN's uniform ranges: 1 / inputs in the first layer, sqrt(6 / inputs) / frequency after it; zero biases."""
        if label == "vector":
            parameter.zero_()
        else:
            num_inputs = parameter.shape[1]
            bound = 1 / num_inputs if name.startswith("layers.0.") else math.sqrt(6 / num_inputs) / self.frequency
            parameter.uniform_(-bound, bound, generator=generator)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of the colours."""
        points, colours = batch
        predicted = model(points)
        return F.mse_loss(predicted, colours.to(predicted.dtype))
