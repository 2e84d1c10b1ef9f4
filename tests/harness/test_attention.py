"""Attention in a pack is the attention of every trial."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.training.attention import JoinedAttention

SHAPE = (3, 2, 4, 7, 5)  # trials, batch, heads, length, width


def make_inputs(num: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(num)]


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"is_causal": True, "scale": 0.3}], ids=str)
def test_it_equals_every_trial_alone_with_its_gradient(options: dict[str, float]) -> None:
    inputs = make_inputs(3)
    with warnings.catch_warnings(), JoinedAttention():
        warnings.simplefilter("error")  # "no batching rule": it would loop over the trials
        packed = torch.vmap(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options))(*inputs)
        packed_grads = torch.autograd.grad(packed.square().sum(), inputs)
    alone = torch.stack([F.scaled_dot_product_attention(*one, **options) for one in zip(*inputs, strict=True)])
    torch.testing.assert_close(packed, alone, rtol=1e-12, atol=1e-12)
    grads = torch.autograd.grad(alone.square().sum(), inputs)
    torch.testing.assert_close(packed_grads, grads, rtol=1e-12, atol=1e-12)


def test_more_sequences_than_a_kernel_takes_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.training.attention.MAX_SEQUENCES", 4)  # of six
    test_it_equals_every_trial_alone_with_its_gradient({"is_causal": True})


def test_trials_may_share_a_key_and_a_mask_is_taken() -> None:
    query, value = make_inputs(2)
    key, mask = query[0].detach(), torch.ones(7, 7, dtype=torch.bool).tril()
    with JoinedAttention():
        causal = torch.vmap(lambda q, v: F.scaled_dot_product_attention(q, key, v, is_causal=True))(query, value)
        masked = torch.vmap(lambda q, v: F.scaled_dot_product_attention(q, key, v, attn_mask=mask))(query, value)
    torch.testing.assert_close(masked, causal, rtol=1e-12, atol=1e-12)
