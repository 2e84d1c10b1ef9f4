"""Compiled element-wise rules move parameters where the same rules move them uncompiled."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from bench.training.routing import find_optimizer_class
from optimizers import compiled
from optimizers.adam import AdamW
from optimizers.madam import MAdam
from optimizers.rule import Rule, apply_rule, zeros_state
from optimizers.rule_optimizer import RuleOptimizer
from tests.configured import OURS, configured, one_of_each_kind_first

SHAPES = ((5, 3), (7,), (2, 2, 4))
NUM_STEPS = 6


def build(name: str, params: list[nn.Parameter]) -> RuleOptimizer:
    config = configured(name)
    built: Any = find_optimizer_class(config)([p for p in params if p.ndim == 2], **config.hyperparameters)
    return built


def train(optimizer: RuleOptimizer, params: list[nn.Parameter]) -> list[Tensor]:
    """Where some steps along random gradients lead, with another learning rate in each."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(NUM_STEPS):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        optimizer.step()
    return [param.detach() for param in params]


def make_params(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in SHAPES]


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """The two parts of a rule run as they are: what is tested is the parting."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("name", one_of_each_kind_first(OURS))
@pytest.mark.usefixtures("uncompiled")
def test_a_rule_parted_in_numbers_and_tensors_is_the_rule(name: str) -> None:
    ends = []
    for compiles in (False, True):
        params = make_params()
        optimizer = build(name, params)
        if compiles:
            optimizer.compile_rules()
        ends.append(train(optimizer, [p for p in params if p.ndim == 2]))
    for end, expected in zip(*ends, strict=True):
        torch.testing.assert_close(end, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.usefixtures("uncompiled")
def test_rows_of_several_trials_move_as_each_alone() -> None:
    lrs, start = (0.1, 0.01, 0.003), torch.randn(3, 11, dtype=torch.float64)
    alone = []
    for row, lr in zip(start, lrs, strict=True):
        param = nn.Parameter(row.clone())
        optimizer = AdamW([param], lr=lr, weight_decay=0.1)
        param.grad = row.sin()
        optimizer.step()
        alone.append(param.detach())
    param, state = start.clone(), [torch.zeros_like(start), torch.zeros_like(start)]
    numbers = torch.tensor([[lr, 0.1] for lr in lrs], dtype=torch.float64)
    columns = {"lr": numbers[:, :1], "weight_decay": numbers[:, 1:]}
    optimizer.compile_rules()
    optimizer.apply_rule(AdamW.rule, param, start.sin(), state, {**optimizer.param_groups[0], **columns}, 1)
    torch.testing.assert_close(param, torch.stack(alone), rtol=1e-13, atol=1e-14)


@pytest.mark.usefixtures("uncompiled")
def test_large_tensors_share_calls_and_move_as_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as one call takes and two more, of which one is not contiguous."""
    monkeypatch.setattr("optimizers.buckets.PIECE_SIZE", 4)
    made = Mock(wraps=compiled._compile_calls)
    monkeypatch.setattr(compiled, "_compile_calls", made)
    ends = []
    for compiles in (False, True):
        params = [nn.Parameter(torch.linspace(-1, 1, 5 + index)) for index in range(compiled.TENSORS_PER_CALL + 1)]
        params.append(nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3).T))
        optimizer = AdamW(params, weight_decay=0.1)
        if compiles:
            optimizer.compile_rules()
        ends.append(train(optimizer, params))
    for end, expected in zip(*ends, strict=True):
        torch.testing.assert_close(end, expected, rtol=1e-5, atol=1e-6)
    assert {len(call.args[2]) for call in made.call_args_list} == {4 * compiled.TENSORS_PER_CALL, 4}


class BranchesOnValue(AdamW):
    rule = Rule(lambda grad: grad if grad.sum() > 0 else -grad, zeros_state(), "flat")


def test_a_rule_that_branches_on_a_value_is_told_in_one_line() -> None:
    param = nn.Parameter(torch.ones(3))
    optimizer = BranchesOnValue([param])
    optimizer.compile_rules()
    param.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"cannot be compiled: .") as caught:
        optimizer.step()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_compiled_rule_agrees_compiles_once_and_keeps_the_exactness_of_madam() -> None:
    """In float64 to 1e-12, in float32 to rounding; the step count and the learning rate change at every step."""
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        ends = {}
        for compiles in (False, True):
            params = make_params(dtype)
            optimizer = AdamW(params, weight_decay=0.1)
            if compiles:
                torch._dynamo.utils.counters.clear()
                optimizer.compile_rules()
            ends[compiles] = train(optimizer, params)
        torch.testing.assert_close(ends[True], ends[False], rtol=tolerance, atol=tolerance)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # of the numbers and of the tensors
    scaled = []
    for exponent in (0, -20, 8):
        params = make_params(torch.float32)
        optimizer = MAdam(params)
        optimizer.compile_rules()
        for step in range(NUM_STEPS):
            for param in params:
                param.grad = torch.sin(param.detach() * (step + 1)) * 2.0**exponent
            optimizer.step()
        scaled.append([param.detach() for param in params])
    for other in scaled[1:]:
        torch.testing.assert_close(other, scaled[0], rtol=0, atol=0)


@pytest.mark.slow
def test_what_is_compiled_for_a_pack_serves_those_who_stay_and_another_number_of_columns() -> None:
    """Trials leave until one is left; then a larger pack comes, in which another hyperparameter differs too."""
    compiled_rules, start = compiled.CompiledRules(), torch.randn(5, 11, dtype=torch.float64)
    lrs, decays = (
        torch.logspace(-3, -1, 5, dtype=torch.float64).view(-1, 1),
        torch.linspace(0, 1, 5).double().view(-1, 1),
    )
    shared = AdamW([nn.Parameter(torch.zeros(11))]).param_groups[0]
    for count, columns in (
        (3, {"lr": lrs}),
        (2, {"lr": lrs}),
        (1, {"lr": lrs}),
        (5, {"lr": lrs, "weight_decay": decays}),
    ):
        group = {**shared, **{name: column[:count] for name, column in columns.items()}}
        ends = []
        for apply in (apply_rule, compiled_rules):
            param, state = start[:count].clone(), [torch.zeros_like(start[:count]) for _ in range(2)]
            apply(AdamW.rule, param, param.sin(), state, group, 3)
            ends.append([param, *state])
        torch.testing.assert_close(ends[1], ends[0], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_a_gradient_in_another_dtype_is_refused_as_uncompiled_not_read_as_the_dtype_compiled_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("optimizers.buckets.PIECE_SIZE", 4)
    params = [nn.Parameter(torch.ones(8)) for _ in range(2)]
    params[1].grad_dtype = None
    optimizer = AdamW(params)
    optimizer.compile_rules()
    for dtype in (torch.float32, torch.float64):
        for param, chosen in zip(params, (torch.float32, dtype), strict=True):
            param.grad = torch.ones(8, dtype=chosen)
        if dtype == torch.float64:
            with pytest.raises(RuntimeError, match="cannot be compiled"):
                optimizer.step()
        else:
            optimizer.step()
    assert all(param.isfinite().all() for param in params)
