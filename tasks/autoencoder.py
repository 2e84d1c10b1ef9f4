"""A deep autoencoder, the classic problem of second-order methods."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import Batch
from tasks.digits import NUM_VAL, SIZE, load_digits_splits
from tasks.options import check_int
from tasks.tensors import TensorTask


class Autoencoder(nn.Module):
    """Tanh layers down to a linear code and, mirrored, up again."""

    def __init__(self, width: int, depth: int, code: int) -> None:
        super().__init__()
        sizes = [SIZE**2, *(max(width >> level, code) for level in range(depth)), code]
        self.encoder = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.decoder = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes[:0:-1]))
        self.head = nn.Linear(sizes[1], SIZE**2)

    def forward(self, pixels: Tensor) -> Tensor:
        """Reconstructions [B, 64] of flat images [B, 64]."""
        x = pixels.to(self.head.weight.dtype)
        for layer in self.encoder[:-1]:
            x = torch.tanh(layer(x))
        x = self.encoder[-1](x)
        for layer in self.decoder:
            x = torch.tanh(layer(x))
        return self.head(x)  # type: ignore[no-any-return]


class AutoencoderTask(TensorTask):
    """Reconstruct scikit-learn's 8x8 digits (see `tasks.digits`) from a short code, as Martens 2010 ("Deep learning via
    Hessian-free optimization", ICML) did with larger ones.

    The loss is the mean squared error of pixels within [-1, 1]. The best linear code of the same length, the principal
    components, is the bar to pass.

    Args:
        width: Units of the outermost hidden layer, halved in each next one.
        depth: Hidden layers on each side.
        code: Length of the code.
        split_seed: Seed of the splits; a trial's own seed never moves them.
        batch_size: Images per batch.
    """

    num_eval = eval_chunk = NUM_VAL

    def __init__(
        self, *, width: int, depth: int, code: int, split_seed: int, batch_size: int, device: torch.device
    ) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("width", width, 1, 4096)
        check_int("depth", depth, 1, 32)
        check_int("code", code, 1, SIZE**2)
        self.width, self.depth, self.code = width, depth, code
        splits, self.fingerprint = load_digits_splits(split_seed)
        self.hold(splits)

    def make_model(self) -> nn.Module:
        """The autoencoder."""
        return Autoencoder(self.width, self.depth, self.code)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of the pixels."""
        pixels, _ = batch
        restored = model(pixels)
        return F.mse_loss(restored, pixels.to(restored.dtype))
