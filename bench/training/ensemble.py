"""K trials of one structure trained as one batched model.

Parameters, gradients and optimizer state of all trials live in buffers `[K, ...]`, laid out so that one call of an
update rule updates everything that the rule's layout lets share a call: element-wise rules see one row per trial,
matrix rules a stack of same-shape matrices. Losses, updates and metrics of a trial never touch another's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.config.schema import TrialConfig
from bench.training.batches import IndexStream
from bench.training.clock import StepClock
from bench.training.components import Task
from bench.training.ensemble_optimizer import EnsembleOptimizer
from bench.training.joined import JoinedKernels
from bench.training.learner import Tensors
from bench.training.memory import keep_freed_memory
from bench.training.model import autocast, build_model, tensors_of, trainable
from bench.training.probes import diagnose
from bench.training.randomness import CountedRandomness
from bench.training.routing import RoutedOptimizer
from bench.training.seeds import make_generator


class _Caller(nn.Module):
    """Lets `functional_call` run any function of the model, not only its `forward`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[nn.Module], Any]) -> Any:
        return function(self.model)


class Ensemble:
    """K trials that agree in structure and differ in seeds and in float hyperparameters.

    Args:
        task: the task of all trials.
        trials: their configurations; `packing.structure` is the same for all.

    Attributes:
        constants: what no optimizer changes by name, each `[K, ...]`: buffers, which the model itself may change, and
            frozen parameters.
    """

    def __init__(self, task: Task, trials: Sequence[TrialConfig]) -> None:
        keep_freed_memory()
        self.task, self.trial = task, trials[0]
        models = [build_model(task, trial).train() for trial in trials]
        self.labels = labels = task.param_labels(models[0])
        self.before: dict[str, Tensor] = {}
        self.measures_norm = self.trial.clip_norm is not None or self.trial.diagnostics
        self.grad_norm: Tensor | None = None
        params = [trainable(model) for model in models]
        optimizers = [RoutedOptimizer(trial.optimizer, own, labels) for trial, own in zip(trials, params, strict=True)]
        if self.trial.compile == "rules":
            optimizers[0].compile_rules()
        self.optimizer = EnsembleOptimizer(optimizers, params)
        self.num_parameters = sum(param.numel() for param in models[0].parameters())
        fixed = [tensors_of(model) for model in models]
        names = fixed[0].keys() - params[0].keys()
        self.constants = {name: torch.stack([own[name].detach() for own in fixed]) for name in sorted(names)}
        self.caller = _Caller(models[0])
        generators = [make_generator(trial.seed, trial.task.name, "data") for trial in trials]
        self.indices = IndexStream(task, generators, self.trial.device)
        self.seeds = torch.tensor([trial.seed for trial in trials], device=self.trial.device)
        self.randomness = CountedRandomness()

    def step(self, lr_factor: float, clock: StepClock) -> Tensor:
        index = self.next_index()
        scale = self.trial.task.gradient_scale(self.optimizer.num_steps + 1)
        losses = self.take_step(index, lr_factor, scale, clock.lap)
        self.randomness.end_first_step()
        return losses

    def next_index(self) -> Tensor:
        """The index of the next step, `[K, ...]`; for diagnostics, the weights before it are kept."""
        if self.trial.diagnostics:
            self.before = {name: param.detach().clone() for name, param in self.optimizer.params.items()}
        return self.indices.next()

    def take_step(
        self, index: Tensor, lr_factor: float | Tensor, gradient_scale: float | Tensor, lap: Callable[[str], None]
    ) -> Tensor:
        """Batch, forward, backward and update, without a look at any value. Returns the losses before it, `[K]`.

        Args:
            index: of the batch, `[K, ...]`.
            lr_factor: on every lr.
            gradient_scale: of the loss.
            lap: told of the end of each part.
        """
        batch = torch.vmap(lambda row: self.task.batch("train", row))(index)
        lap("data")
        losses: Tensor = self._call(self.task.loss, batch, self.optimizer.num_steps + 1)
        lap("forward")
        is_plain = isinstance(gradient_scale, float) and gradient_scale == 1.0
        with self.randomness.refused_in_backward():
            self.optimizer.backward(losses if is_plain else losses * gradient_scale)
        lap("backward")
        if self.measures_norm:
            self.grad_norm = self.optimizer.clip(self.trial.clip_norm, self.trial.task.loss_scale)
        self.optimizer.step(lr_factor)
        lap("optimizer")
        return losses.detach()

    @property
    def weights(self) -> Tensors:
        return {name: param.detach() for name, param in self.optimizer.params.items()}

    @torch.no_grad()
    def evaluate(self, split: str, *, full: bool, weights: Tensors | None = None) -> Mapping[str, Tensor]:
        self.optimizer.set_mode("eval")
        self.caller.eval()
        metrics = self._call(lambda model, _: self.task.evaluate(model, split, full=full), None, 0, weights)
        self.caller.train()
        self.optimizer.set_mode("train")
        return metrics  # type: ignore[no-any-return]

    def _call(
        self, function: Callable[[nn.Module, Any], Any], batch: Any, step: int | Tensor, weights: Tensors | None = None
    ) -> Any:
        """`function(model, batch)` of every trial's model and batch, results stacked along a leading [K]."""

        def call_one(params: Tensors, constants: Tensors, own_batch: Any, seed: Tensor) -> Any:
            named = {f"model.{name}": tensor for name, tensor in {**constants, **params}.items()}
            with self.randomness.of(seed, step):
                result = functional_call(self.caller, named, (lambda model: function(model, own_batch),))
            return result, {name: named[f"model.{name}"] for name in constants}  # a model may set them anew

        in_dims = (0, 0, None if batch is None else 0, 0)
        with autocast(self.trial), JoinedKernels():
            call = torch.vmap(call_one, in_dims=in_dims)
            result, self.constants = call(weights or self.optimizer.params, self.constants, batch, self.seeds)
        return result

    def diagnose(self) -> Mapping[str, Tensor]:
        return diagnose(self.optimizer.probes(self.labels, self.before))

    @torch.no_grad()
    def final_weights(self) -> Tensors:
        own = {name: tensor.clone() for name, tensor in self.weights.items()}
        self.optimizer.set_mode("eval")
        copies = {name: tensor.clone() for name, tensor in {**self.weights, **self.constants}.items()}
        self.optimizer.set_mode("train")
        for name, tensor in self.weights.items():  # what goes on may not notice, and there and back may round
            tensor.copy_(own[name])
        return copies

    def keep(self, positions: Sequence[int]) -> None:
        index = torch.tensor(positions, device=self.trial.device)
        self.optimizer.keep(index)
        self.constants = {name: tensor[index] for name, tensor in self.constants.items()}
        self.seeds = self.seeds[index]
        self.indices.keep(positions)

    def state_bytes(self) -> int:
        return self.optimizer.state_bytes()

    def state(self) -> Mapping[str, object]:
        return {
            "optimizer": self.optimizer.state(),
            "constants": self.constants,
            "data": self.indices.state(),
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        self.optimizer.restore(state["optimizer"])
        for name, tensor in self.constants.items():
            tensor.copy_(state["constants"][name])
        self.indices.restore(state["data"])
