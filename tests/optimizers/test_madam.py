"""What sets MAdam apart: it does not see how large gradients are."""

import pytest
import torch

from optimizers.adam import Adam
from optimizers.madam import MAdam, calculate_madam_update

NUM_STEPS = 20


def train(optimizer_class, factor, **options):
    """A parameter after steps along fixed gradients times `factor`."""
    param = torch.nn.Parameter(torch.zeros(17, 13))
    optimizer = optimizer_class([param], lr=0.1, weight_decay=0.0, **options)
    generator = torch.Generator().manual_seed(0)
    for _ in range(NUM_STEPS):
        param.grad = torch.randn(param.shape, generator=generator) * factor
        optimizer.step()
    return param.detach()


@pytest.mark.parametrize("exponent", [-40, -20, -1, 7, 20])
def test_powers_of_two_in_the_gradient_leave_the_update_bit_identical(exponent):
    assert torch.equal(train(MAdam, 2.0**exponent), train(MAdam, 1.0))


def test_powers_of_two_in_the_gradient_change_adam():
    assert not torch.equal(train(Adam, 2.0**-20), train(Adam, 1.0))


def test_gradients_whose_squares_underflow_still_move_parameters_by_full_steps():
    tiny = train(MAdam, 1e-25, scale_log2=120)
    torch.testing.assert_close(tiny, train(MAdam, 1.0), rtol=1e-4, atol=1e-5)
    assert train(Adam, 1e-25).abs().max() < 1e-15
    assert (torch.full((), 1e-25) ** 2).item() == 0.0


def test_a_scale_too_small_for_the_gradients_shows_in_the_update():
    assert not train(MAdam, 1e-25, scale_log2=0).isfinite().all()


def test_a_scale_too_large_for_the_gradients_shows_in_the_update():
    assert not train(MAdam, 1e10, scale_log2=120).isfinite().all()


def test_update_is_zero_where_no_gradient_ever_was():
    grad = torch.tensor([0.0, 1.0])
    moments = torch.zeros(2), torch.zeros(2)
    update = calculate_madam_update(grad, *moments, betas=(0.9, 0.999), correct_bias=True, step=1, scale_log2=64)
    assert update[0] == 0.0
    assert update[1].item() == pytest.approx(1.0, rel=1e-6)


def test_a_parameter_whose_gradient_turned_zero_still_moves():
    moments = torch.zeros(1), torch.zeros(1)
    options = {"betas": (0.9, 0.999), "correct_bias": True, "scale_log2": 64}
    calculate_madam_update(torch.ones(1), *moments, step=1, **options)
    assert calculate_madam_update(torch.zeros(1), *moments, step=2, **options).item() > 0


@pytest.mark.parametrize("scale_log2", [1, -3, 63, 2.0, True, 400, "64"])
def test_a_scale_without_an_exact_root_is_refused(scale_log2):
    with pytest.raises(ValueError, match="scale_log2="):
        MAdam([torch.nn.Parameter(torch.zeros(2))], scale_log2=scale_log2)
