"""Ours against the optimizers of torch and pytorch_optimizer, where they are the same; where not, the test says how."""

import math

import pytest
import torch

from optimizers.adam import Adam, AdamW
from optimizers.ademamix import AdEMAMix, SimplifiedAdEMAMix
from optimizers.adopt import ADOPT
from optimizers.lamb import LAMB
from optimizers.laprop import LaProp
from optimizers.lion import Lion
from optimizers.mars import MARS
from optimizers.muon import Muon
from optimizers.prodigy import Prodigy
from optimizers.qhadamw import QHAdamW
from optimizers.signum import Signum
from optimizers.soap import SOAP

NUM_STEPS = 100
SHAPES = [(7,), (5, 3), (4, 6)]


def train(make_optimizer, dtype=torch.float64, shapes=SHAPES, num_steps=NUM_STEPS):
    """Parameters after steps along gradients that are the same for every optimizer."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    optimizer = make_optimizer(params)
    for _ in range(num_steps):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).to(dtype)
        optimizer.step()
    return torch.cat([param.detach().flatten() for param in params])


def assert_equal(ours, theirs, dtype=torch.float64, tolerance=None):
    tolerance = tolerance or {torch.float64: 1e-11, torch.float32: 3e-6}[dtype]
    torch.testing.assert_close(train(ours, dtype), train(theirs, dtype), rtol=tolerance, atol=tolerance)


DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


@DTYPES
@pytest.mark.parametrize("foreach", [False, True], ids=["for-loop", "foreach"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("ours", "theirs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
def test_adam_and_adamw_are_those_of_torch(dtype, foreach, weight_decay, ours, theirs):
    options = {"lr": 0.01, "betas": (0.9, 0.97), "eps": 1e-6, "weight_decay": weight_decay}
    assert_equal(lambda p: ours(p, **options), lambda p: theirs(p, **options, foreach=foreach), dtype)


@DTYPES
def test_adam_with_nesterov_is_nadam_of_torch_without_its_momentum_schedule(dtype):
    """Dozat 2016, section 3, warms the momentum up; torch does so by `momentum_decay`, ours keeps it constant."""
    options = {"lr": 0.01, "betas": (0.9, 0.97), "eps": 1e-6}
    ours, theirs = lambda p: Adam(p, nesterov=True, **options), torch.optim.NAdam
    assert_equal(ours, lambda p: theirs(p, momentum_decay=1e9, **options), dtype, 3e-6)  # mu_product is in float32
    assert (train(ours) - train(lambda p: theirs(p, **options))).abs().max() > 1e-3


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_is_that_of_torch(nesterov, adjust):
    """One matrix per shape, so that both orthogonalize the same products in bfloat16, in which they round alike."""
    scale = {"scale_mode": "shape_scaling"} if adjust == "original" else {"extra_scale_factor": 0.2}
    options = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1, "nesterov": nesterov}
    ours = train(lambda p: Muon(p, coefficient_type="simple", **scale, **options), torch.float32, [(5, 3), (4, 6)], 20)
    theirs = train(lambda p: torch.optim.Muon(p, adjust_lr_fn=adjust, **options), torch.float32, [(5, 3), (4, 6)], 20)
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


@pytest.fixture
def peers():
    return pytest.importorskip("pytorch_optimizer")


@DTYPES
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lion_is_that_of_pytorch_optimizer(peers, dtype, weight_decay):
    options = {"lr": 0.01, "betas": (0.9, 0.97), "weight_decay": weight_decay}
    assert_equal(lambda p: Lion(p, **options), lambda p: peers.Lion(p, **options), dtype)


@DTYPES
def test_ademamix_is_that_of_pytorch_optimizer(peers, dtype):
    options = {"lr": 0.01, "betas": (0.9, 0.97, 0.99), "alpha": 3.0}
    assert_equal(lambda p: AdEMAMix(p, **options), lambda p: peers.AdEMAMix(p, **options), dtype)


@pytest.mark.parametrize("num_steps", [20, 60, 100])
def test_schedules_of_ademamix_are_those_of_pytorch_optimizer(peers, num_steps):
    """The paper's beta3 (appendix A.1) has the half-life log 0.5 / log beta, ours log 0.5 / log(beta + 1e-8) - 1, so
    that beta = 0 is allowed. The two agree to some 1e-4 in the parameters."""
    options = {"lr": 0.01, "betas": (0.9, 0.97, 0.99), "alpha": 3.0}
    schedules = {"num_beta_slow_warmup_steps": 60, "num_alpha_warmup_steps": 60}
    ours = train(lambda p: AdEMAMix(p, **schedules, **options), num_steps=num_steps)
    theirs = train(lambda p: peers.AdEMAMix(p, t_alpha_beta3=60, **options), num_steps=num_steps)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    without = train(lambda p: AdEMAMix(p, **options), num_steps=num_steps)
    assert (without - theirs).abs().max() > 1e-3


@pytest.mark.parametrize("num_steps", [1, 5, 50])
def test_simplified_ademamix_is_that_of_pytorch_optimizer_but_for_two_constants(peers, num_steps):
    """The paper sums, m = beta m + g, and so does ours. Theirs averages, m = beta m + (1 - beta) g, which is
    the same at lr (1 - beta) and alpha / (1 - beta), and divides by the root of v's bias correction in float32, where
    the correction of v would multiply."""
    beta, beta2, alpha, lr = 0.95, 0.97, 0.5, 0.02
    options = {"lr": lr * (1 - beta), "betas": (beta, beta2), "alpha": alpha / (1 - beta), "eps": 0.0}

    def ours(params):
        return SimplifiedAdEMAMix(params, correct_bias=False, **options)

    def theirs(params):
        return peers.SimplifiedAdEMAMix(params, lr=lr, betas=(beta, beta2), alpha=alpha, eps=0.0)

    moves = [train(each, num_steps=num_steps) - train(each, num_steps=num_steps - 1) for each in (ours, theirs)]
    torch.testing.assert_close(moves[0], moves[1] * math.sqrt(1 - beta2**num_steps), rtol=1e-6, atol=1e-8)


@DTYPES
def test_laprop_is_that_of_pytorch_optimizer(peers, dtype):
    """Theirs adds eps before the bias correction and decays after the update; algorithm 1 adds it after the correction,
    as ours does. A small eps and no decay take both differences away."""
    options = {"lr": 0.01, "betas": (0.9, 0.97), "eps": 1e-15}
    assert_equal(lambda p: LaProp(p, **options), lambda p: peers.LaProp(p, **options), dtype, 1e-5)


@DTYPES
def test_qhadamw_is_that_of_pytorch_optimizer(peers, dtype):
    options = {"lr": 0.01, "betas": (0.9, 0.97), "nus": (0.7, 0.9), "weight_decay": 0.1}
    ours, theirs = lambda p: QHAdamW(p, **options), lambda p: peers.QHAdam(p, weight_decouple=True, **options)
    assert_equal(ours, theirs, dtype, 1e-5)  # bias corrections in float32


def test_signum_is_signsgd_of_pytorch_optimizer(peers):
    options = {"lr": 0.01, "momentum": 0.9}
    assert_equal(lambda p: Signum(p, **options), lambda p: peers.SignSGD(p, **options))


def test_adopt_is_that_of_pytorch_optimizer(peers):
    """Theirs bounds by t^(1/4), counting from 1; the paper's t counts from the second gradient, as ours does."""
    options = {"lr": 0.01, "betas": (0.9, 0.97), "eps": 1e-6}
    theirs = lambda p: peers.ADOPT(p, clip_lambda=lambda t: (t - 1) ** 0.25, **options)  # noqa: E731
    assert_equal(lambda p: ADOPT(p, **options), theirs)


def test_mars_is_that_of_pytorch_optimizer(peers):
    """Theirs adds eps before the bias correction: a small one takes the difference away."""
    options = {"lr": 0.01, "betas": (0.9, 0.97), "gamma": 0.1, "eps": 1e-15, "weight_decay": 0.1}
    theirs = lambda p: peers.MARS(p, optimize_1d=True, **options)  # noqa: E731
    assert_equal(lambda p: MARS(p, **options), theirs, tolerance=1e-6)


def test_lamb_is_that_of_pytorch_optimizer_without_bias_correction(peers):
    options = {"lr": 0.01, "betas": (0.9, 0.97), "eps": 1e-15, "weight_decay": 0.1}
    theirs = lambda p: peers.Lamb(p, weight_decouple=False, adam_debias=True, **options)  # noqa: E731
    assert_equal(lambda p: LAMB(p, correct_bias=False, **options), theirs, tolerance=1e-9)


def test_prodigy_is_that_of_pytorch_optimizer(peers):
    options = {"lr": 1.0, "betas": (0.9, 0.97), "d0": 1e-2, "weight_decay": 0.1, "safeguard_warmup": True}
    assert_equal(lambda p: Prodigy(p, **options), lambda p: peers.Prodigy(p, **options), tolerance=1e-6)


@pytest.mark.parametrize("num_steps", [1, 2, 10])
def test_soap_is_that_of_pytorch_optimizer_until_the_bases_are_renewed(peers, num_steps):
    """Theirs renews them in float32. Square matrices have no null space, in which their basis is rounding's choice."""
    options = {"lr": 0.01, "betas": (0.9, 0.97), "eps": 1e-15}
    shapes = [(5, 5), (4, 4)]
    ours = train(lambda p: SOAP(p, weight_decay=0.0, **options), shapes=shapes, num_steps=num_steps)
    theirs = train(lambda p: peers.SOAP(p, weight_decay=0.0, **options), shapes=shapes, num_steps=num_steps)
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
