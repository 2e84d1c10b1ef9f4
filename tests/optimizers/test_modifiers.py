"""Modifiers around rules of ours: the mask of `cautious`, the norms of `hyperball`, and what they leave as it is."""

import copy

import pytest
import torch

from bench.training.proof import follow
from optimizers.adam import Adam, AdamW
from optimizers.deepmd_adamuon import AdaMuonOptimizer
from optimizers.lamb import LAMB
from optimizers.lion import Lion
from optimizers.muon import Muon
from optimizers.prodigy import Prodigy
from optimizers.signum import Signum
from optimizers.soap import SOAP
from tests.configured import OURS, configured, one_of_each_kind_first
from tests.marks import quick_for

SHAPES = [(4, 3), (3, 5), (4, 3), (6,), ()]
NUM_STEPS = 5


def make_params(optimizer_class, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = SHAPES[:3] if optimizer_class is Muon else SHAPES
    return [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def make_grads(params, step):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(param.shape, generator=generator, dtype=param.dtype) for param in params]


def step_of(optimizer, params, grads):
    """The change of every parameter in one step."""
    before = [param.detach().clone() for param in params]
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    optimizer.step()
    return [param.detach() - old for param, old in zip(params, before, strict=True)]


@pytest.mark.parametrize("optimizer_class", [Adam, Lion, Muon, SOAP, AdaMuonOptimizer])
def test_cautious_masks_the_update_of_the_rule_and_keeps_its_mean_weight(optimizer_class):
    params = make_params(optimizer_class)
    plain = optimizer_class(params, lr=0.1, weight_decay=0.0)
    for step in range(NUM_STEPS):
        step_of(plain, params, make_grads(params, step))
    twins = copy.deepcopy(params)
    cautious = optimizer_class.with_modifiers(["cautious"])(twins, lr=0.1, weight_decay=0.0)
    cautious.load_state_dict(plain.state_dict())
    grads = make_grads(params, NUM_STEPS)
    changes, masked = step_of(plain, params, grads), step_of(cautious, twins, grads)
    for change, actual, grad in zip(changes, masked, grads, strict=True):
        mask = (change * grad < 0).to(grad.dtype)
        tolerance = 1e-2 if optimizer_class in (Muon, AdaMuonOptimizer) and grad.ndim == 2 else 1e-12  # bfloat16
        torch.testing.assert_close(actual, change * mask / mask.mean().clamp(min=1e-3), rtol=tolerance, atol=tolerance)


def test_cautious_with_a_mask_that_agrees_everywhere_is_the_rule_in_every_bit():
    params = make_params(AdamW)
    twins = copy.deepcopy(params)
    optimizer, cautious = AdamW(params), AdamW.with_modifiers(["cautious"])(twins)
    for _ in range(NUM_STEPS):
        grads = make_grads(params, 0)  # always the same: momentum agrees with it
        step_of(optimizer, params, grads)
        step_of(cautious, twins, grads)
    assert all(torch.equal(param, twin) for param, twin in zip(params, twins, strict=True))


@pytest.mark.parametrize("optimizer_class", [Adam, Lion, Muon, SOAP, AdaMuonOptimizer])
@pytest.mark.parametrize(
    "modifiers", quick_for(["hyperball"], ["hyperball", "cautious hyperball", "hyperball cautious"])
)
def test_hyperball_keeps_the_norms_of_matrices_and_of_their_updates(optimizer_class, modifiers):
    params = make_params(optimizer_class, torch.float32)
    radii = [param.norm() for param in params]
    optimizer = optimizer_class.with_modifiers(modifiers.split())(params, lr=0.1, weight_decay=0.3)
    for step in range(200):
        changes = step_of(optimizer, params, make_grads(params, step))
        for param, change, radius in zip(params, changes, radii, strict=True):
            if param.ndim >= 2:
                assert param.norm().item() == pytest.approx(radius.item(), rel=1e-6)
                # W' is on the sphere and W - 0.1 R u / |u| beside it: their angle is at most asin 0.1
                assert change.norm() <= 0.1013 * radius or (optimizer_class is SOAP and step == 0)


def test_hyperball_steps_are_a_part_of_the_radius_along_the_update():
    params = make_params(Signum)[:1]
    start, grad = params[0].detach().clone(), make_grads(params, 0)
    step_of(Signum.with_modifiers(["hyperball"])(params, lr=0.2), params, grad)
    radius = start.norm()
    moved = start - 0.2 * radius * grad[0].sign() / grad[0].sign().norm()
    torch.testing.assert_close(params[0].detach(), moved * radius / moved.norm(), rtol=1e-12, atol=1e-12)


def test_hyperball_leaves_vectors_to_the_rule_and_matrices_of_zeros_to_plain_steps():
    params = [torch.nn.Parameter(torch.zeros(3, 4)), torch.nn.Parameter(torch.ones(5))]
    twins = copy.deepcopy(params)
    modified, plain = AdamW.with_modifiers(["hyperball"])(params, weight_decay=0.0), AdamW(twins, weight_decay=0.0)
    for step in range(NUM_STEPS):
        step_of(modified, params, make_grads(params, step))
        step_of(plain, twins, make_grads(twins, step))
    torch.testing.assert_close(params, twins)


COMBINATIONS = [["cautious"], ["hyperball"], ["cautious", "hyperball"]]
SHAPES_IN_PACKS = {"a": (4, 3), "b": (3, 5), "c": (4, 3), "d": (6,), "e": (), "f": (4, 3), "g": (2, 3, 2, 2)}


@pytest.mark.parametrize("modifiers", COMBINATIONS, ids="+".join)
@pytest.mark.parametrize("name", one_of_each_kind_first(OURS))
def test_a_modified_rule_packs_as_exactly_as_the_rule(name, modifiers):
    """Packed and alone, along the same gradients; several tensors of one shape share a call."""
    config = configured(name)
    if name == "prodigy" or (name == "schedule_free_adamw" and "hyperball" in modifiers):
        return  # refused: it needs the whole model at once, or moves parameters in a way of its own
    options = dict(config.hyperparameters)
    if "fp32_matmul_prec" in options:
        options["fp32_matmul_prec"] = "highest"
    parts = config.model_dump(by_alias=True, exclude_unset=True) | options
    configs = [
        type(config).model_validate({**parts, "modifiers": modifiers, "lr": factor * options["lr"]})
        for factor in (0.3, 1.0)
    ]
    shapes = {own: torch.Size(shape) for own, shape in SHAPES_IN_PACKS.items()}
    labels = {own: "vector" if len(shape) < 2 else "matrix" for own, shape in shapes.items()}
    paths = follow(configs, shapes, labels, NUM_STEPS)
    tolerance = 1e-2 if name == "deepmd_adamuon" else 1e-9 if name == "soap" else 1e-12
    for k, own in enumerate(paths.alone):
        for key, param in own.items():
            torch.testing.assert_close(paths.packed[key][k], param, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("modifiers", COMBINATIONS, ids="+".join)
@pytest.mark.parametrize("optimizer_class", [AdamW, Lion, Muon, LAMB])
def test_parameters_of_one_shape_share_a_call_and_move_as_alone(optimizer_class, modifiers):
    together, apart = make_params(optimizer_class), make_params(optimizer_class)
    modified = optimizer_class.with_modifiers(modifiers)
    options = {"fp32_matmul_prec": "highest"} if optimizer_class is Muon else {}
    optimizer, others = modified(together, **options), [modified([param], **options) for param in apart]
    for step in range(NUM_STEPS):
        grads = make_grads(together, step)
        step_of(optimizer, together, grads)
        for other, param, grad in zip(others, apart, grads, strict=True):
            step_of(other, [param], [grad])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)
    radii = [state.get("radius", torch.ones(())) for state in optimizer.state.values()]
    assert {radius.shape for radius in radii} == {torch.Size([])}


@pytest.mark.parametrize("names", [["nope"], ["cautious", "cautious"]])
def test_unknown_and_repeated_modifiers_are_refused_with_the_known_ones(names):
    with pytest.raises(ValueError, match="expected different ones of cautious, hyperball"):
        AdamW.with_modifiers(names)


def test_a_rule_for_the_whole_model_is_refused():
    params = make_params(AdamW)
    optimizer = Prodigy.with_modifiers(["cautious"])(params)
    with pytest.raises(ValueError, match="whole model"):
        step_of(optimizer, params, make_grads(params, 0))
