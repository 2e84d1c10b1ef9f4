"""A small vision transformer on scikit-learn's handwritten digits."""

import torch
from torch import Tensor, nn

from tasks.base import ClassificationTask
from tasks.digits import NUM_CLASSES, NUM_VAL, SIZE, load_digits_splits
from tasks.options import check_int
from tasks.tensors import TensorTask
from tasks.transformer import Block, init_as_gpt2_

PATCH = 2
NUM_PATCHES = (SIZE // PATCH) ** 2


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2021, arXiv 2010.11929, with RMSNorm and the mean of all patches in place of a class token."""

    def __init__(self, width: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.patch = nn.Linear(PATCH**2, width)
        self.position = nn.Embedding(NUM_PATCHES, width)
        self.blocks = nn.Sequential(*(Block(width, num_heads, causal=False) for _ in range(num_layers)))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [B, 10] of flat images [B, 64]."""
        images = pixels.to(self.head.weight.dtype).view(-1, SIZE // PATCH, PATCH, SIZE // PATCH, PATCH)
        patches = images.transpose(2, 3).flatten(3).flatten(1, 2)
        x = self.blocks(self.patch(patches) + self.position.weight)
        return self.head(self.norm(x).mean(1))  # type: ignore[no-any-return]


class ViTTask(TensorTask, ClassificationTask):
    """Classify scikit-learn's 8x8 digits (see `tasks.digits`) from sixteen patches of 2x2 pixels.

    Args:
        width: Size of the residual stream.
        num_heads: Attention heads; divides `width`.
        num_layers: Transformer blocks.
        split_seed: Seed of the splits; a trial's own seed never moves them.
        batch_size: Images per batch.
    """

    num_eval = eval_chunk = NUM_VAL

    def __init__(
        self, *, width: int, num_heads: int, num_layers: int, split_seed: int, batch_size: int, device: torch.device
    ) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("width", width, 1, 4096)
        check_int("num_heads", num_heads, 1, 64)
        check_int("num_layers", num_layers, 1, 64)
        if width % num_heads:
            raise ValueError(f"task.num_heads={num_heads} does not divide task.width={width}: choose one that does")
        self.width, self.num_heads, self.num_layers = width, num_heads, num_layers
        splits, self.fingerprint = load_digits_splits(split_seed)
        self.hold(splits)

    def make_model(self) -> nn.Module:
        """The vision transformer."""
        return VisionTransformer(self.width, self.num_heads, self.num_layers)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """As the language model; the head small, for an even prediction at the start."""
        if label == "head":
            parameter.normal_(0.0, 0.02, generator=generator)
        else:
            init_as_gpt2_(name, label, parameter, generator, width=self.width, num_layers=self.num_layers)
