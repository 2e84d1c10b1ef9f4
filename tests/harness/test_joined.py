"""What a pack computes in fewer calls is what every trial computes."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.training.joined import JoinedKernels

SHAPE = (3, 2, 4, 7, 5)  # trials, batch, heads, length, width


def make_inputs(num: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(num)]


def check(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
    """Values and gradients of every trial's inputs, in a pack and alone."""
    leaves = [tensor for tensor in inputs if tensor.requires_grad]
    with warnings.catch_warnings(), JoinedKernels():
        warnings.simplefilter("error")  # "no batching rule": it would loop over the trials
        packed = torch.vmap(function)(*inputs)
        packed_grads = torch.autograd.grad(packed.square().sum(), leaves)
    alone = torch.stack([function(*one) for one in zip(*inputs, strict=True)])
    torch.testing.assert_close(packed, alone, rtol=1e-12, atol=1e-12)
    grads = torch.autograd.grad(alone.square().sum(), leaves)
    torch.testing.assert_close(packed_grads, grads, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"is_causal": True, "scale": 0.3}], ids=str)
def test_it_equals_every_trial_alone_with_its_gradient(options: dict[str, float]) -> None:
    check(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options), make_inputs(3))


def test_more_sequences_than_a_kernel_takes_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.training.joined.MAX_SEQUENCES", 4)  # of six
    test_it_equals_every_trial_alone_with_its_gradient({"is_causal": True})


def test_trials_may_share_a_key_and_a_mask_is_taken() -> None:
    query, value = make_inputs(2)
    key, mask = query[0].detach(), torch.ones(7, 7, dtype=torch.bool).tril()
    with JoinedKernels():
        causal = torch.vmap(lambda q, v: F.scaled_dot_product_attention(q, key, v, is_causal=True))(query, value)
        masked = torch.vmap(lambda q, v: F.scaled_dot_product_attention(q, key, v, attn_mask=mask))(query, value)
    torch.testing.assert_close(masked, causal, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("eps", [None, 0.5])
def test_a_norm_has_a_weight_of_each_trial_or_none(eps: float | None) -> None:
    (input,) = make_inputs(1)
    weight = torch.rand(SHAPE[0], SHAPE[-1], dtype=torch.float64, requires_grad=True)
    check(lambda x, own: F.rms_norm(x, SHAPE[-1:], own, eps), [input, weight])
    check(lambda x: F.rms_norm(x, SHAPE[-2:], eps=eps), [input])
    check(lambda own: F.rms_norm(input[0].detach(), SHAPE[-1:], own, eps), [weight])


def test_a_linear_layer_has_a_bias_of_each_trial() -> None:
    (input,) = make_inputs(1)
    weight, bias = (torch.rand(SHAPE[0], *shape, dtype=torch.float64, requires_grad=True) for shape in ([6, 5], [6]))
    check(F.linear, [input, weight, bias])
    check(F.linear, [input[:, 0, 0], weight, bias])


@pytest.mark.parametrize(
    "options",
    [{}, {"ignore_index": 2}, {"reduction": "sum"}, {"label_smoothing": 0.1}],
    ids=lambda options: str(options),
)
def test_a_cross_entropy_leaves_out_what_is_to_be_ignored(options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (3, 7), generator=generator)
    labels[1, :5] = options.get("ignore_index", -100)
    check(lambda x, y: F.cross_entropy(x, y, **options), [logits, labels])
    if "ignore_index" not in options:
        check(lambda x, y: F.cross_entropy(x, y.softmax(-1), **options), [logits, logits.detach()])
