"""SAM and Lookahead do what their papers' algorithms say, around any optimizer, and reduce to it where they should."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optimizers.adam import AdamW
from optimizers.lookahead import Lookahead
from optimizers.muon import Muon
from optimizers.sam import SAM

RHO, LR = 0.3, 0.05


def start() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in ((3, 2), (3,))]


def loss_of(params: Any, step: int) -> Tensor:
    """Another batch in each step."""
    matrix, vector = params
    inputs = torch.linspace(-1, 2, 8, dtype=torch.float64).reshape(4, 2) + 0.1 * step
    return torch.nn.functional.softplus(inputs @ matrix.T + vector).square().mean() + (vector**4).sum() / 7


def train(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], num_steps: int = 7) -> list[int]:
    """Step through closures; returns how many gradients each step took."""
    counts = []
    for step in range(num_steps):
        counts.append(0)

        def closure(step: int = step) -> Tensor:
            counts[step] += 1
            optimizer.zero_grad()
            loss = loss_of(params, step)
            loss.backward()
            return loss

        optimizer.step(closure)
    return counts


def grads_at(values: list[Tensor], step: int) -> list[Tensor]:
    leaves = [value.clone().requires_grad_() for value in values]
    return list(torch.autograd.grad(loss_of(leaves, step), leaves))


def sam_by_the_formula(lrs: tuple[float, float], num_steps: int = 7) -> list[Tensor]:
    """Algorithm 1 with plain gradient descent, an lr for each parameter."""
    values = [param.detach().clone() for param in start()]
    for step in range(num_steps):
        first = grads_at(values, step)
        norm = torch.cat([grad.flatten() for grad in first]).norm()
        second = grads_at([w + RHO * grad / norm for w, grad in zip(values, first, strict=True)], step)
        values = [w - lr * grad for w, lr, grad in zip(values, lrs, second, strict=True)]
    return values


def assert_equal(params: list[nn.Parameter], expected: Any, tolerance: float = 1e-12) -> None:
    for param, value in zip(params, expected, strict=True):
        torch.testing.assert_close(param.detach(), value.detach(), rtol=tolerance, atol=tolerance)


def test_sam_is_algorithm_1_and_takes_two_gradients_a_step() -> None:
    params = start()
    assert train(SAM(torch.optim.SGD(params, lr=LR), rho=RHO), params) == [2] * 7
    assert_equal(params, sam_by_the_formula((LR, LR)))


def test_sam_without_a_closure_says_what_it_needs() -> None:
    with pytest.raises(TypeError, match=r"^SAM\.step\(\) missing 1 required positional argument: 'closure'$"):
        SAM(torch.optim.SGD(start(), lr=LR)).step()  # type: ignore[call-arg]


def test_sam_around_several_optimizers_has_one_norm_over_all_parameters() -> None:
    params = start()
    train(SAM([torch.optim.SGD(params[:1], lr=LR), torch.optim.SGD(params[1:], lr=LR / 3)], rho=RHO), params)
    assert_equal(params, sam_by_the_formula((LR, LR / 3)))


def test_sam_with_a_radius_of_zero_is_its_base_to_the_last_bit() -> None:
    params, twins = start(), start()
    train(SAM(AdamW(params, lr=LR), rho=0.0), params)
    train(AdamW(twins, lr=LR), twins)
    assert_equal(params, twins, 0)


def test_lookahead_is_algorithm_1_and_shows_the_slow_weights_in_evaluations() -> None:
    params = start()
    optimizer = Lookahead(torch.optim.SGD(params, lr=LR), k=3, alpha=0.4)
    train(optimizer, params)
    fast = [param.detach().clone() for param in start()]
    slow = [value.clone() for value in fast]
    for step in range(7):
        fast = [w - LR * grad for w, grad in zip(fast, grads_at(fast, step), strict=True)]
        if (step + 1) % 3 == 0:
            slow = [phi + 0.4 * (theta - phi) for phi, theta in zip(slow, fast, strict=True)]
            fast = [value.clone() for value in slow]
    assert_equal(params, fast)
    before = [param.detach().clone() for param in params]
    for _ in range(2):
        optimizer.eval()
        assert_equal(params, slow)
    optimizer.train()
    optimizer.train()
    assert_equal(params, before, 0)


def test_lookahead_with_alpha_1_is_its_base_and_with_k_1_shortens_every_step() -> None:
    params, twins = start(), start()
    train(Lookahead(AdamW(params, lr=LR), k=2, alpha=1.0), params)
    train(AdamW(twins, lr=LR), twins)
    assert_equal(params, twins, 0)
    params, twins = start(), start()
    train(Lookahead(torch.optim.SGD(params, lr=LR), k=1, alpha=0.3), params)
    train(torch.optim.SGD(twins, lr=0.3 * LR), twins)
    assert_equal(params, twins)


@pytest.mark.parametrize("wrap", [lambda base: SAM(base, rho=RHO), lambda base: Lookahead(base, k=3)])
def test_a_saved_state_goes_on_to_the_last_bit_and_a_schedule_still_reaches_the_bases(wrap: Any) -> None:
    def make(params: list[nn.Parameter]) -> Any:
        return wrap([Muon(params[:1], lr=LR), AdamW(params[1:], lr=LR)])

    params, twins = start(), start()
    optimizer, other = make(params), make(twins)
    train(optimizer, params, 4)
    other.load_state_dict(deepcopy(optimizer.state_dict()))  # PyTorch would share tensors
    for twin, param in zip(twins, params, strict=True):
        twin.data.copy_(param.data)
    for one, own in ((optimizer, params), (other, twins)):
        for group in one.param_groups:
            group["lr"] = LR / 5
        assert [base.param_groups[0]["lr"] for base in one.bases] == [LR / 5] * 2
        train(one, own, 4)
    assert_equal(params, twins, 0)
