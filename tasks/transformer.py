"""The transformer block that the language model and the vision transformer share, and its initialisation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GPT2_INIT_STD, GPT2_WIDTH = 0.02, 768


class Block(nn.Module):
    """Self-attention, causal or not, and a GELU perceptron, each behind an RMSNorm and added to the residual stream.

    Query, key and value are matrices of their own, which suits rules that orthogonalize a whole matrix.
    """

    def __init__(self, width: int, num_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.attention_norm = nn.RMSNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width, bias=False)
        self.mlp_out = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Residual stream [B, T, width] to residual stream."""
        normed = self.attention_norm(x)
        query, key, value = (
            linear(normed).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.attention_out(attended.transpose(1, 2).flatten(2))
        update: Tensor = self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x))))
        return x + update


def init_as_gpt2_(
    name: str, label: str, parameter: Tensor, generator: torch.Generator, *, width: int, num_layers: int
) -> None:
    """GPT-2's normal, its 0.02 at width 768 scaled to this width, as 1 / sqrt(width); gains 1, biases 0.

    Divided by sqrt(2 num_layers) where a matrix writes into the residual stream. A plain 0.02 in a narrow model leaves
    attention even for hundreds of steps, and how many depends on the seed.
    """
    if label == "vector":
        parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    else:
        std = GPT2_INIT_STD * math.sqrt(GPT2_WIDTH / width)
        writes_residual = name.endswith("_out.weight")
        parameter.normal_(0.0, std / math.sqrt(2 * num_layers) if writes_residual else std, generator=generator)
