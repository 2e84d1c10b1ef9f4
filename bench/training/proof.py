"""A proof on the spot that trials may train together: some steps in float64, packed and alone, must agree.

What `torch.vmap` cannot run fails loudly. What it runs to other numbers, as an optimizer that keeps something outside
of its state or a rule that mixes its elements, is found here, before any training.
"""

import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import bench
from bench.config.optimizer import OptimizerConfig
from bench.config.schema import TrialConfig
from bench.errors import one_line
from bench.training.clock import StepClock
from bench.training.components import Task
from bench.training.ensemble import Ensemble
from bench.training.ensemble_optimizer import EnsembleOptimizer
from bench.training.hidden_state import HiddenState, find_private_number
from bench.training.learner import PlainLearner, Tensors
from bench.training.memory import is_out_of_memory
from bench.training.routing import RoutedOptimizer

NUM_STEPS = 8
NUM_MODEL_STEPS = 3
TOLERANCE = 1e-9  # of the largest movement, or the largest value
ROUNDING = 1e-14  # of the largest value
Shapes = Mapping[str, torch.Size]
Item = TypeVar("Item")
SAID_BY_VMAP = {
    ".item()": "reads the value of a tensor (.item())",
    "data-dependent control flow": "branches on the value of a tensor",
    "random operation": "draws random numbers",
    "dynamic shape": "indexes with a mask",
}


class NotPackableError(Exception):
    """Trials cannot train together. Its text says why, in one line.

    Attributes:
        share: by which share of their way packed trials are off, where they are; else inf.
    """

    def __init__(self, text: str, share: float = math.inf) -> None:
        super().__init__(f"{text}: {share:.1g} of the way off" if math.isfinite(share) else text)
        self.share = share


@dataclass(frozen=True)
class Paths:
    """Where trials went along the same gradients.

    Attributes:
        start: the parameters of each trial by name.
        alone: where each went alone.
        packed: where all went in a pack, each parameter `[K, ...]`.
    """

    start: Sequence[Tensors]
    alone: Sequence[Tensors]
    packed: Tensors


def prove_optimizer(configs: Sequence[OptimizerConfig], shapes: Shapes, labels: Mapping[str, str]) -> None:
    """Let the optimizer of two or more trials take some steps, alone and packed.

    Args:
        configs: the optimizer of each trial; they differ in float hyperparameters only.
        shapes: of the parameters, by name.
        labels: of the parameters, by name.

    Raises:
        NotPackableError: they move elsewhere, or do what cannot be packed.
    """
    paths = follow(configs, shapes, labels, NUM_STEPS)
    for k, own in enumerate(paths.alone):
        for name, param in own.items():
            movement = param - paths.start[k][name]
            _require_close(paths.packed[name][k], param, movement, "moves parameters elsewhere in a pack")


def follow(configs: Sequence[OptimizerConfig], shapes: Shapes, labels: Mapping[str, str], num_steps: int) -> Paths:
    """Step alone and packed along the same random gradients, in float64. For the arguments see `prove_optimizer`.

    Raises:
        NotPackableError: the optimizer does what cannot be packed.
    """
    generator = torch.Generator().manual_seed(0)

    def draw() -> list[Tensors]:
        normal: Any = {"generator": generator, "dtype": torch.float64}
        return [{name: torch.randn(shape, **normal) for name, shape in shapes.items()} for _ in configs]

    start, grads = draw(), [draw() for _ in range(num_steps)]
    alone = [_step_alone(config, labels, start[k], [own[k] for own in grads]) for k, config in enumerate(configs)]
    again = _step_alone(configs[0], labels, start[0], [own[0] for own in grads])
    if any(not torch.allclose(again[name], param, rtol=0, atol=0, equal_nan=True) for name, param in alone[0].items()):
        raise NotPackableError("gives other numbers when it trains a second time")
    return Paths(start, alone, _told(lambda: _step_packed(configs, labels, start, grads)))


def _step_alone(
    config: OptimizerConfig,
    labels: Mapping[str, str],
    start: Mapping[str, Tensor],
    grads: Sequence[Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    """Where the parameters of one trial end. Raises NotPackableError for what would be lost or shared in a pack."""
    params = {name: nn.Parameter(value.clone()) for name, value in start.items()}
    optimizer = RoutedOptimizer(config, params, labels)
    optimizer.set_mode("train")
    hidden = HiddenState([route.optimizer for route in optimizer.routes])
    for step, own in enumerate(grads):
        for name, param in params.items():
            param.grad = own[name].clone()
        optimizer.set_lr_factor(1 - step / (2 * len(grads)))
        optimizer.step()
    changed = hidden.changed()
    if changed:
        raise NotPackableError(changed)
    return {name: param.detach() for name, param in params.items()}


def _step_packed(
    configs: Sequence[OptimizerConfig],
    labels: Mapping[str, str],
    start: Sequence[Tensors],
    grads: Sequence[Sequence[Tensors]],
) -> dict[str, Tensor]:
    params = [{name: nn.Parameter(value.clone()) for name, value in own.items()} for own in start]
    routed = [RoutedOptimizer(config, own, labels) for config, own in zip(configs, params, strict=True)]
    for routes in zip(*(own.routes for own in routed), strict=True):
        private = find_private_number([route.optimizer for route in routes])
        if private:
            raise NotPackableError(private)
    optimizer = EnsembleOptimizer(routed, params)
    optimizer.set_mode("train")
    for step, own in enumerate(grads):
        slopes = {name: torch.stack([trial[name] for trial in own]) for name in start[0]}
        loss = torch.stack([(param * slopes[name]).sum() for name, param in optimizer.params.items()]).sum()
        optimizer.backward(loss)
        optimizer.step(1 - step / (2 * len(grads)))
    return {name: param.detach() for name, param in optimizer.params.items()}


def prove_model(task: Task, trials: Sequence[TrialConfig]) -> None:
    """Train the models of two trials for a few steps of gradient descent, alone and packed.

    Args:
        task: the task of all trials.
        trials: two of one structure.

    Raises:
        NotPackableError: losses, parameters, buffers or metrics differ, `torch.vmap` refuses the model, or it fails
            alone too.
    """
    try:
        _compare_models(task, trials, "float64", TOLERANCE)
    except _RefusesPrecisionError:
        _compare_models(task, trials, trials[0].precision, 1e-4)


class _RefusesPrecisionError(NotPackableError):
    """A model cannot train alone in a precision."""


def _compare_models(task: Task, trials: Sequence[TrialConfig], precision: str, tolerance: float) -> None:
    plain = [_with_gradient_descent(trial, seed, precision) for seed, trial in enumerate(trials)]
    try:
        alone = [_train_model(PlainLearner(task, trial)) for trial in plain]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        text = f"fails alone in {precision}: {type(error).__name__}: {error}"[:160]
        raise _RefusesPrecisionError(one_line(text)) from error
    packed = _told(lambda: _train_model(Ensemble(task, plain)))
    for k, own in enumerate(alone):
        for name, values in own.items():
            value, in_pack = values[0].double(), packed[name][k].double()
            _require_close(in_pack, value, tolerance / TOLERANCE * value, f"its model has another {name} in a pack")


def _with_gradient_descent(trial: TrialConfig, seed: int, precision: str) -> TrialConfig:
    descent = OptimizerConfig.model_validate({"name": "descent", "_target_": "torch.optim.SGD", "lr": 1e-3})
    plain = {"clip_norm": None, "diagnostics": False, "compile": "none"}
    return trial.model_copy(update={"optimizer": descent, "seed": seed, "precision": precision, **plain})


def _train_model(learner: PlainLearner | Ensemble) -> dict[str, Tensor]:
    """All that a few steps show of it, each `[K, ...]`."""
    clock = StepClock(torch.device(learner.trial.device))
    seen = dict(learner.evaluate("val", full=False))
    for step in range(NUM_MODEL_STEPS):
        seen[f"loss of step {step + 1}"] = learner.step(1.0, clock)
    seen |= {f"{name} after {NUM_MODEL_STEPS} steps": v for name, v in learner.evaluate("val", full=False).items()}
    if isinstance(learner, Ensemble):
        return seen | learner.optimizer.params | learner.constants
    tensors = [*learner.model.named_parameters(), *learner.model.named_buffers()]
    return seen | {name: tensor.detach()[None] for name, tensor in tensors}


def _told(run: Callable[[], Item]) -> Item:
    """What `run` returns. Raises NotPackableError with what it raised, in a user's words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()
    except Exception as error:  # code of anyone, under a transformation that its author never thought of
        if is_out_of_memory(error) or isinstance(error, NotPackableError):
            raise
        text = next((said for sign, said in SAID_BY_VMAP.items() if sign in str(error)), "")
        raise NotPackableError(text or one_line(f"{type(error).__name__}: {error}"[:160])) from error


def _require_close(value: Tensor, expected: Tensor, scale: Tensor, text: str) -> None:
    """Raises NotPackableError where two tensors differ by more than rounding; not finite equals not finite."""
    finite = expected.isfinite()
    if not torch.equal(finite, value.isfinite()):
        raise NotPackableError(text)
    if not finite.any():
        return
    error = (value - expected)[finite].abs().max().item()
    allowed = TOLERANCE * scale[finite].abs().max().item() + ROUNDING * expected[finite].abs().max().item()
    if error > allowed:
        share = error / scale[finite].abs().max().item() if scale[finite].any() else math.inf
        raise NotPackableError(text, share)


def pick_distinct(items: Sequence[Item], key: Callable[[Item], Any], count: int = 3) -> list[Item]:
    """At most `count` of the items, different by `key` where that is possible, the first and the last among them."""
    distinct = list({repr(key(item)): item for item in items}.values())
    chosen = distinct if len(distinct) > 1 else list(items)
    middle: Iterable[Item] = chosen[1:-1][: count - 2] if len(chosen) > 2 else []
    return [chosen[0], *middle, chosen[-1]]


def is_shipped(owner: type) -> bool:
    """Whether a class lies beside the harness, in the folders of its own optimizers and tasks."""
    file = getattr(sys.modules.get(owner.__module__), "__file__", None)
    home = Path(bench.__file__).resolve().parents[1]
    return file is not None and Path(file).resolve().parent in (home / "optimizers", home / "tasks")
