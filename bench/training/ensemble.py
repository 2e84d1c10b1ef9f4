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
from bench.training.attention import JoinedAttention
from bench.training.clock import StepClock
from bench.training.components import Task
from bench.training.ensemble_optimizer import EnsembleOptimizer
from bench.training.learner import autocast, build_model
from bench.training.memory import keep_freed_memory
from bench.training.probes import diagnose
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
    """

    def __init__(self, task: Task, trials: Sequence[TrialConfig]) -> None:
        keep_freed_memory()
        self.task, self.trial = task, trials[0]
        models = [build_model(task, trial) for trial in trials]
        self.labels = labels = task.param_labels(models[0])
        self.before: dict[str, Tensor] = {}
        params = [dict(model.named_parameters()) for model in models]
        optimizers = [RoutedOptimizer(trial.optimizer, own, labels) for trial, own in zip(trials, params, strict=True)]
        self.optimizer = EnsembleOptimizer(optimizers, params)
        self.num_parameters = sum(param.numel() for param in params[0].values())
        self.caller = _Caller(models[0])
        self.generators = [make_generator(trial.seed, trial.task.name, "data") for trial in trials]

    def step(self, lr_factor: float, clock: StepClock) -> Tensor:
        index = torch.stack([self.task.sample(generator) for generator in self.generators])
        batch = torch.vmap(lambda row: self.task.batch("train", row))(index.to(self.trial.device))
        if self.trial.diagnostics:
            self.before = {name: param.detach().clone() for name, param in self.optimizer.params.items()}
        clock.lap("data")
        losses: Tensor = self._call(self.task.loss, batch)
        clock.lap("forward")
        scale = self.trial.task.loss_scale
        self.optimizer.backward((losses if scale == 1.0 else losses * scale).sum())
        clock.lap("backward")
        if self.trial.clip_norm is not None:
            self.optimizer.clip(self.trial.clip_norm, scale)
        self.optimizer.step(lr_factor)
        clock.lap("optimizer")
        return losses.detach()

    @torch.no_grad()
    def evaluate(self, split: str, *, full: bool) -> Mapping[str, Tensor]:
        metrics: Mapping[str, Tensor] = self._call(lambda model, _: self.task.evaluate(model, split, full=full), None)
        return metrics

    def _call(self, function: Callable[[nn.Module, Any], Any], batch: Any) -> Any:
        """`function(model, batch)` of every trial's model and batch, results stacked along a leading [K]."""

        def call_one(params: Mapping[str, Tensor], own_batch: Any) -> Any:
            named = {f"model.{name}": param for name, param in params.items()}
            return functional_call(self.caller, named, (lambda model: function(model, own_batch),))

        in_dims = (0, None if batch is None else 0)
        with autocast(self.trial), JoinedAttention():
            return torch.vmap(call_one, in_dims=in_dims)(self.optimizer.params, batch)

    def diagnose(self) -> Mapping[str, Tensor]:
        return diagnose(self.optimizer.probes(self.labels, self.before))

    def keep(self, positions: Sequence[int]) -> None:
        self.optimizer.keep(torch.tensor(positions, device=self.trial.device))
        self.generators = [self.generators[position] for position in positions]

    def state_bytes(self) -> int:
        return self.optimizer.state_bytes()

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state(), "data": [generator.get_state() for generator in self.generators]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.optimizer.restore(state["optimizer"])
        for generator, own in zip(self.generators, state["data"], strict=True):
            generator.set_state(own)
