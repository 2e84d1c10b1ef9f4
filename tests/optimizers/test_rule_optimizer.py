"""The one step loop: how it joins and cuts tensors must not show, and it keeps torch.optim's contract."""

import copy
import io

import pytest
import torch

from optimizers import buckets
from optimizers.adam import Adam, AdamW
from optimizers.adaptive_muon import AdaptiveMuon
from optimizers.ademamix import AdEMAMix, SimplifiedAdEMAMix
from optimizers.deepmd_adamuon import AdaMuonOptimizer
from optimizers.laprop import LaProp
from optimizers.lion import Lion
from optimizers.madam import MAdam
from optimizers.muon import Muon
from optimizers.qhadamw import QHAdamW
from optimizers.rule import apply_rule
from optimizers.signum import Signum

ELEMENTWISE = [Adam, AdamW, MAdam, AdEMAMix, SimplifiedAdEMAMix, LaProp, Lion, Signum, QHAdamW]
MATRIX = [Muon, AdaptiveMuon]
SHAPES = {
    "element-wise": [(), (1,), (7,), (3, 5), (2, 3, 4), (33, 9), (3, 5)],
    "matrix": [(3, 5), (5, 3), (3, 5), (8, 8), (3, 5)],
}
NUM_STEPS = 4


def shapes_for(optimizer_class):
    return SHAPES["matrix" if optimizer_class in MATRIX else "element-wise"]


def make_params(shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def set_grads(params, step):
    generator = torch.Generator().manual_seed(step)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)


def train(optimizer, params, steps):
    for step in steps:
        set_grads(params, step)
        optimizer.step()


def assert_same(params, others):
    for param, other in zip(params, others, strict=True):
        assert torch.equal(param, other)


@pytest.mark.parametrize("optimizer_class", ELEMENTWISE)
@pytest.mark.parametrize("piece_size", [4, 64, 2**20], ids="pieces of {}".format)
def test_joined_and_cut_tensors_move_bitwise_as_each_alone(optimizer_class, piece_size, monkeypatch):
    monkeypatch.setattr(buckets, "PIECE_SIZE", piece_size)
    params, alone = make_params(shapes_for(optimizer_class)), make_params(shapes_for(optimizer_class))
    together = optimizer_class(params, weight_decay=0.1)
    rule, group = together.rule_for(params[0], together.param_groups[0]), together.param_groups[0]
    states = [rule.init_state(param) for param in alone]
    with torch.no_grad():
        for step in range(1, NUM_STEPS + 1):
            set_grads(params, step)
            set_grads(alone, step)
            together.step()
            for param, state in zip(alone, states, strict=True):
                apply_rule(rule, param, param.grad, state.values(), group, step)
    assert_same(params, alone)
    for param, state in zip(params, states, strict=True):
        for name, buffer in state.items():
            assert torch.equal(together.state[param][name], buffer)


@pytest.mark.parametrize("optimizer_class", [*MATRIX, AdaMuonOptimizer])
def test_stacked_matrices_move_as_each_alone(optimizer_class):
    precise = {} if optimizer_class is AdaMuonOptimizer else {"fp32_matmul_prec": "highest"}
    shapes = shapes_for(optimizer_class)
    params, alone = make_params(shapes, torch.float64), make_params(shapes, torch.float64)
    together = optimizer_class(params, **precise)
    separate = [optimizer_class([param], **precise) for param in alone]
    for step in range(NUM_STEPS):
        train(together, params, [step])
        set_grads(alone, step)
        for optimizer in separate:
            optimizer.step()
    tolerance = 1e-3 if optimizer_class is AdaMuonOptimizer else 1e-12  # its Newton-Schulz runs in bfloat16
    for param, other in zip(params, alone, strict=True):
        torch.testing.assert_close(param, other, rtol=tolerance, atol=tolerance)


ALL = [*ELEMENTWISE, *MATRIX, AdaMuonOptimizer]


@pytest.mark.parametrize("optimizer_class", ALL)
def test_training_goes_on_bitwise_from_a_saved_state(optimizer_class):
    params = make_params(shapes_for(optimizer_class))
    optimizer = optimizer_class(params, lr=0.1)
    train(optimizer, params, range(NUM_STEPS))
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "params": params}, file)
    file.seek(0)
    saved = torch.load(file)
    resumed = optimizer_class(saved["params"])
    resumed.load_state_dict(saved["optimizer"])
    train(optimizer, params, range(NUM_STEPS, 2 * NUM_STEPS))
    train(resumed, saved["params"], range(NUM_STEPS, 2 * NUM_STEPS))
    assert_same(params, saved["params"])
    assert all(resumed.state[param]["step"] == 2 * NUM_STEPS for param in saved["params"])


def test_a_state_loaded_into_low_precision_keeps_its_own_dtype():
    params = make_params([(3, 4), (5,)], torch.bfloat16)
    optimizer = AdaMuonOptimizer(params)
    train(optimizer, params, range(2))
    resumed = AdaMuonOptimizer(params)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for param in params:
        for name, value in optimizer.state[param].items():
            loaded = resumed.state[param][name]
            assert value == loaded if name == "step" else torch.equal(value, loaded) and value.dtype == loaded.dtype


@pytest.mark.parametrize("optimizer_class", ALL)
def test_a_copied_optimizer_is_independent(optimizer_class):
    params = make_params(shapes_for(optimizer_class))
    optimizer = optimizer_class(params)
    train(optimizer, params, range(2))
    clone_params, clone = copy.deepcopy((params, optimizer))
    before = [param.detach().clone() for param in params]
    train(clone, clone_params, range(2, 4))
    assert_same(params, before)
    train(optimizer, params, range(2, 4))
    assert_same(params, clone_params)


@pytest.mark.parametrize("optimizer_class", ALL)
def test_parameters_without_a_gradient_stay_and_count_no_step(optimizer_class):
    params, alone = make_params(shapes_for(optimizer_class)), make_params(shapes_for(optimizer_class))
    optimizer, other = optimizer_class(params), optimizer_class(alone[1:])
    idle = params[0].detach().clone()
    for step in range(NUM_STEPS):
        set_grads(params, step)
        for param, twin in zip(params, alone, strict=True):
            twin.grad = param.grad.clone()
        params[0].grad = None
        optimizer.step()
        other.step()
    assert torch.equal(params[0], idle)
    assert params[0] not in optimizer.state
    assert_same(params[1:], alone[1:])


@pytest.mark.parametrize("optimizer_class", ELEMENTWISE)
def test_a_parameter_that_misses_a_step_has_its_own_count(optimizer_class):
    params, alone = make_params([(3,), (4,)]), make_params([(3,), (4,)])
    optimizer, separate = optimizer_class(params), [optimizer_class([param]) for param in alone]
    for step in range(NUM_STEPS):
        for params_of_one in (params, alone):
            set_grads(params_of_one, step)
            if step == 1:
                params_of_one[0].grad = None
        optimizer.step()
        for one in separate:
            one.step()
    assert [optimizer.state[param]["step"] for param in params] == [NUM_STEPS - 1, NUM_STEPS]
    assert_same(params, alone)


@pytest.mark.parametrize("optimizer_class", ALL)
def test_groups_have_their_own_hyperparameters(optimizer_class):
    shapes = shapes_for(optimizer_class)
    params, alone = make_params(shapes), make_params(shapes)
    groups = [{"params": params[:2], "lr": 0.1}, {"params": params[2:], "weight_decay": 0.3}]
    optimizer = optimizer_class(groups, lr=0.01)
    separate = [optimizer_class(alone[:2], lr=0.1), optimizer_class(alone[2:], lr=0.01, weight_decay=0.3)]
    train(optimizer, params, range(NUM_STEPS))
    for step in range(NUM_STEPS):
        set_grads(alone, step)
        for one in separate:
            one.step()
    assert_same(params, alone)


@pytest.mark.parametrize("optimizer_class", ALL)
def test_gradients_are_left_alone_and_may_be_strided(optimizer_class):
    shapes = [(6, 4), (6, 4)]
    params, strided = make_params(shapes), make_params(shapes)
    optimizer, other = optimizer_class(params, weight_decay=0.1), optimizer_class(strided, weight_decay=0.1)
    for step in range(NUM_STEPS):
        set_grads(params, step)
        for param, twin in zip(params, strided, strict=True):
            twin.grad = param.grad.T.contiguous().T
            assert not twin.grad.is_contiguous()
        before = [param.grad.clone() for param in strided]
        optimizer.step()
        other.step()
        assert all(torch.equal(param.grad, grad) for param, grad in zip(strided, before, strict=True))
    assert_same(params, strided)


@pytest.mark.parametrize("optimizer_class", ALL)
def test_strided_parameters_move_as_contiguous_ones(optimizer_class):
    plain = make_params([(6, 4)])
    strided = [torch.nn.Parameter(plain[0].detach().T.contiguous().T)]
    assert not strided[0].is_contiguous()
    train(optimizer_class(plain), plain, range(NUM_STEPS))
    train(optimizer_class(strided), strided, range(NUM_STEPS))
    torch.testing.assert_close(strided[0], plain[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("optimizer_class", ALL)
def test_step_calls_the_closure_with_gradients_on_and_returns_its_loss(optimizer_class):
    (param,) = params = make_params([(3, 4)])
    optimizer = optimizer_class(params)
    before = param.detach().clone()

    def closure():
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(before.square().sum().item())
    assert not torch.equal(param, before)


@pytest.mark.parametrize("optimizer_class", ALL)
def test_hooks_run_around_a_step(optimizer_class):
    params = make_params([(3, 4)])
    optimizer, calls = optimizer_class(params), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    train(optimizer, params, [0])
    assert calls == ["before", "after"]


def test_sparse_gradients_are_refused():
    param = torch.nn.Parameter(torch.zeros(4))
    param.grad = torch.sparse_coo_tensor([[1]], [1.0], (4,), check_invariants=True)
    with pytest.raises(RuntimeError, match="sparse"):
        Adam([param]).step()


@pytest.mark.parametrize("optimizer_class", ALL)
def test_complex_parameters_are_refused(optimizer_class):
    with pytest.raises(ValueError, match="complex"):
        optimizer_class([torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))])


@pytest.mark.parametrize("optimizer_class", ALL)
@pytest.mark.parametrize(("name", "value"), [("lr", -1.0), ("lr", float("inf")), ("lr", "1"), ("weight_decay", -0.5)])
@pytest.mark.parametrize("where", ["defaults", "group"])
def test_numbers_out_of_range_are_refused_with_their_name(optimizer_class, name, value, where):
    params = make_params([(2, 2)])
    groups, defaults = (params, {name: value}) if where == "defaults" else ([{"params": params, name: value}], {})
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        optimizer_class(groups, **defaults)


@pytest.mark.parametrize("optimizer_class", [*ELEMENTWISE, *MATRIX])
def test_an_unknown_decay_method_is_refused_with_the_known_ones(optimizer_class):
    with pytest.raises(
        ValueError, match="weight_decay_method='none': expected one of decoupled, independent, l2, palm"
    ):
        optimizer_class(make_params([(2, 2)]), weight_decay_method="none")


BAD_OPTIONS = [
    (Adam, {"betas": (0.9, 1.0)}, r"betas\[1\]=1.0"),
    (AdamW, {"betas": (0.9,)}, r"betas=\(0.9,\): expected 2"),
    (Adam, {"eps": -1e-8}, "eps=-1e-08"),
    (MAdam, {"betas": (-0.1, 0.9)}, r"betas\[0\]=-0.1"),
    (AdEMAMix, {"betas": (0.9, 0.99)}, "expected 3"),
    (AdEMAMix, {"num_alpha_warmup_steps": 0}, "num_alpha_warmup_steps=0"),
    (AdEMAMix, {"num_beta_slow_warmup_steps": 1.5}, "num_beta_slow_warmup_steps=1.5"),
    (AdEMAMix, {"alpha": -1.0}, "alpha=-1.0"),
    (SimplifiedAdEMAMix, {"num_beta_fast_warmup_steps": -3}, "num_beta_fast_warmup_steps=-3"),
    (SimplifiedAdEMAMix, {"min_beta_fast": 1.0}, "min_beta_fast=1.0"),
    (LaProp, {"eps": float("nan")}, "eps=nan"),
    (Lion, {"betas": (0.9, 1.5)}, r"betas\[1\]=1.5"),
    (Signum, {"momentum": 1.0}, "momentum=1.0"),
    (QHAdamW, {"nus": (0.7, 1.1)}, r"nus=\(0.7, 1.1\)"),
]


@pytest.mark.parametrize(("optimizer_class", "options", "message"), BAD_OPTIONS)
def test_bad_hyperparameters_are_refused(optimizer_class, options, message):
    with pytest.raises(ValueError, match=message):
        optimizer_class(make_params([(2,)]), **options)


def test_shape_scaling_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match="use_shape_scaling"):
        Signum(make_params([(2, 2, 2)]), use_shape_scaling=True)


@pytest.mark.parametrize("optimizer_class", [Adam, Muon])
def test_no_parameters_with_gradients_is_no_error(optimizer_class):
    optimizer_class(make_params([(2, 2)])).step()
