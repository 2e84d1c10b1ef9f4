"""A perceptron on a table: the prices of 53,595 diamonds."""

import csv
import io

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import Batch, data_fingerprint, init_for_relu_
from tasks.options import check_int
from tasks.tensors import TensorTask, cut, package_file, shuffled

NUM_HELD_OUT = 5394
SPLIT_SEED = 0
MAX_FEATURE = 10.0
"""Standard deviations; a dozen rows have lengths that are typing errors, up to 46."""
GRADES = {
    "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
    "color": tuple("JIHGFED"),
    "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
}
NUMBERS = ("carat", "depth", "table", "x", "y", "z")


class TableNet(nn.Module):
    """Hidden layers with ReLU between them, one output."""

    def __init__(self, num_features: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(num_features, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers - 1))
        self.head = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Predictions [B] from features [B, F]."""
        x = F.relu(self.first(features.to(self.head.weight.dtype)))
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x).squeeze(-1)  # type: ignore[no-any-return]


class TabularTask(TensorTask):
    """Regress the logarithm of a diamond's price, standardised, on its weight, size and grades.

    The 53,595 different stones of ggplot2's `diamonds` (MIT), from plotnine's data file (MIT), which is read and not
    imported; a tenth validates and a tenth tests. arXiv 2604.15297 compares 15 optimizers over 10 seeds on this table
    with another scale of the target (RMSE: schedule-free AdamW .1349, AdamW .1380, Muon .1396, SOAP .1428, SGD
    .1590), so that ratios of root mean squared errors can be compared and not the errors: the loss here is a mean
    *squared* error.

    Args:
        width: Units in each hidden layer.
        num_layers: Hidden layers.
        batch_size: Rows per batch.
    """

    num_eval = eval_chunk = 2697

    def __init__(self, *, width: int, num_layers: int, batch_size: int, device: torch.device) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("width", width, 1, 4096)
        check_int("num_layers", num_layers, 1, 64)
        self.width, self.num_layers = width, num_layers
        content = package_file("plotnine", "data/diamonds.csv", "fairstep[data]").read_bytes()
        features, target = read_diamonds(content.decode("utf-8"))
        order = shuffled(len(target), SPLIT_SEED)
        features, target = features[order], target[order]
        train = slice(2 * NUM_HELD_OUT, None)  # what `cut` leaves for training, by which everything is scaled
        features = (features - features[train].mean(0)) / features[train].std(0)
        features = features.clamp(-MAX_FEATURE, MAX_FEATURE)
        target = (target - target[train].mean()) / target[train].std()
        self.num_features = features.shape[1]
        self.hold(cut(features.float(), target.float(), num_val=NUM_HELD_OUT, num_test=NUM_HELD_OUT))
        self.fingerprint = data_fingerprint(content, split_seed=SPLIT_SEED, num_held_out=NUM_HELD_OUT)

    def make_model(self) -> nn.Module:
        """The perceptron."""
        return TableNet(self.num_features, self.width, self.num_layers)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """As He et al. 2015 for ReLU; the head small, for the mean as a guess at the start."""
        init_for_relu_(name, label, parameter, generator)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of the standardised logarithm: 1 for the mean as a guess."""
        features, target = batch
        predicted = model(features)
        return F.mse_loss(predicted, target.to(predicted.dtype))


def read_diamonds(text: str) -> tuple[Tensor, Tensor]:
    """Features float64 [N, 26], numbers and then one column per grade, and the logarithm of the price [N]."""
    table = list(csv.DictReader(io.StringIO(text)))
    columns = [np.array([float(row[name]) for row in table]) for name in NUMBERS]
    for name, grades in GRADES.items():
        columns += [np.array([row[name] == grade for row in table], dtype=float) for grade in grades]
    features = np.stack(columns, axis=1)
    price = np.array([float(row["price"]) for row in table])
    # Some stones are listed several times: each once, lest one of them trains a model and tests it too.
    kept = np.sort(np.unique(features.astype(np.float32), axis=0, return_index=True)[1])
    return torch.from_numpy(features[kept]), torch.from_numpy(np.log(price[kept]))
