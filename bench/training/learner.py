"""One trial in training the usual way: module, backward, optimizer step. `ensemble.Ensemble` trains K as one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.config.schema import TrialConfig
from bench.training.batches import IndexStream
from bench.training.clock import StepClock
from bench.training.components import Task
from bench.training.model import autocast, build_model, tensors_of, trainable
from bench.training.probes import diagnose
from bench.training.randomness import CountedRandomness
from bench.training.routing import RoutedOptimizer
from bench.training.seeds import make_generator

Tensors = Mapping[str, Tensor]
Part = tuple[Any, float]
"""Part of a batch that goes through the model at once, and its share of the examples."""


class Learner(Protocol):
    """K >= 1 trials that take their steps together; the training loop knows nothing more of them.

    Losses and metrics are unscaled, with one entry per living trial ([K]).
    """

    num_parameters: int

    @property
    def grad_norm(self) -> Tensor | None:
        """Of the last step's unscaled gradient before it was clipped, `[K]`, where it is clipped or diagnosed."""

    @property
    def weights(self) -> Tensors:
        """What is trained, by name, outside of autograd and as it is now; with a leading [K] in a pack."""

    def step(self, lr_factor: float, clock: StepClock) -> Tensor:
        """One step of every trial, its parts told to `clock`. Returns the training losses before it, [K]."""

    def evaluate(self, split: str, *, full: bool, weights: Tensors | None = None) -> Mapping[str, Tensor]:
        """Metrics of `val` or `test`, each [K]: on the task's fixed subset, or on everything.

        `weights` stand for those in training, where given.
        """

    def diagnose(self) -> Mapping[str, Tensor]:
        """Where eps reshaped the last step, each [K]; see `bench.training.probes`. Only if the trials ask for it."""

    def final_weights(self) -> Tensors:
        """Copies of the model's parameters and buffers by name, as evaluations see them, each `[K, ...]`."""

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with the trials at these positions only."""

    def state_bytes(self) -> int:
        """Bytes of optimizer state per trial."""

    def state(self) -> Mapping[str, object]:
        """Parameters, optimizer state and random states, as tensors and plain values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned in a learner of the same trials."""


class PlainLearner:
    """One trial with its own module and any torch optimizer."""

    def __init__(self, task: Task, trial: TrialConfig) -> None:
        torch.manual_seed(make_generator(trial.seed, trial.task.name, "global").initial_seed())
        self.task, self.trial = task, trial
        self.model = build_model(task, trial).train()
        self.params = trainable(self.model)
        self.num_parameters = sum(param.numel() for param in self.model.parameters())
        self.labels = task.param_labels(self.model)
        self.optimizer = RoutedOptimizer(trial.optimizer, self.params, self.labels)
        if trial.compile == "rules":
            self.optimizer.compile_rules()
        generator = make_generator(trial.seed, trial.task.name, "data")
        self.indices = IndexStream(task, [generator], trial.device)
        self.randomness = CountedRandomness()
        self.num_steps = 0
        self.before: dict[str, Tensor] = {}
        self.grad_norm: Tensor | None = None
        self.on_cuda = torch.device(trial.device).type == "cuda"

    def step(self, lr_factor: float, clock: StepClock) -> Tensor:
        self.num_steps += 1
        parts = self.indices.next()[0].chunk(self.trial.task.accumulate)
        batches = [self.task.batch("train", part) for part in parts]
        shares = [len(part) / sum(map(len, parts)) for part in parts]
        self.optimizer.set_lr_factor(lr_factor)
        if self.trial.diagnostics:
            self.before = {name: param.detach().clone() for name, param in self.params.items()}
        clock.lap("data")
        step = self._step_with_closure if self.optimizer.needs_closure else self._step
        loss = step(list(zip(batches, shares, strict=True)), clock)
        self.randomness.end_first_step()
        return loss.detach().reshape(1)

    def _step(self, parts: Sequence[Part], clock: StepClock) -> Tensor:
        loss = self._differentiate(parts, clock.lap)
        self._clip()
        self.optimizer.step()
        clock.lap("optimizer")
        return loss

    def _differentiate(self, parts: Sequence[Part], lap: Callable[[str], None]) -> Tensor:
        """The mean loss over the parts of a batch, one forward and backward pass after the other, and its gradient."""
        self.model.zero_grad(set_to_none=True)
        losses = []
        for number, (batch, share) in enumerate(parts):
            loss = self._forward(batch, number)
            loss = loss if share == 1.0 else loss * share
            lap("forward")
            self._backward(loss)
            lap("backward")
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _step_with_closure(self, parts: Sequence[Part], clock: StepClock) -> Tensor:
        """The optimizer itself calls for forward and backward passes, as often as it likes: all of it is its time."""
        losses: list[Tensor] = []

        def closure() -> Tensor:
            loss = self._differentiate(parts, lambda _: None)
            self._clip()
            losses.append(loss)
            return loss * self.trial.task.gradient_scale(self.num_steps)  # what the gradients are of

        self.optimizer.step(closure)
        clock.lap("optimizer")
        return losses[0]

    def _forward(self, batch: Any, number: int) -> Tensor:
        count = (self.num_steps - 1) * self.trial.task.accumulate + number + 1
        with autocast(self.trial), self.randomness.of(self.trial.seed, count):
            return self.task.loss(self.model, batch)

    def _backward(self, loss: Tensor) -> None:
        scale = self.trial.task.gradient_scale(self.num_steps)
        with self.randomness.refused_in_backward():
            (loss if scale == 1.0 else loss * scale).backward()  # type: ignore[no-untyped-call]

    def _clip(self) -> None:
        """Measure the norm that the gradients of the unscaled loss have, and clip it, where that is asked for."""
        if self.trial.clip_norm is None and not self.trial.diagnostics:
            return
        scale = self.trial.task.loss_scale
        grads = [param.grad for param in self.params.values() if param.grad is not None]
        norm = nn.utils.get_total_norm(grads if scale == 1.0 else [grad / scale for grad in grads])
        self.grad_norm = norm.detach().reshape(1)
        if self.trial.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.params.values(), self.trial.clip_norm, norm)

    @property
    def weights(self) -> Tensors:
        return {name: param.detach() for name, param in self.params.items()}

    @torch.no_grad()
    def evaluate(self, split: str, *, full: bool, weights: Tensors | None = None) -> Mapping[str, Tensor]:
        self.optimizer.set_mode("eval")
        self.model.eval()
        with autocast(self.trial), self.randomness.of(self.trial.seed, 0), self._with(weights):
            metrics = self.task.evaluate(self.model, split, full=full)
        self.model.train()
        self.optimizer.set_mode("train")
        return {name: value.reshape(1) for name, value in metrics.items()}

    @contextmanager
    def _with(self, weights: Tensors | None) -> Iterator[None]:
        """Other weights for a while, where given."""
        own = self.weights
        for name, tensor in (weights or {}).items():
            self.params[name].data = tensor
        yield
        for name, tensor in own.items():
            self.params[name].data = tensor

    def diagnose(self) -> Mapping[str, Tensor]:
        return diagnose(self.optimizer.probes(self.labels, self.before))

    @torch.no_grad()
    def final_weights(self) -> Tensors:
        own = {name: tensor.clone() for name, tensor in self.weights.items()}
        self.optimizer.set_mode("eval")
        copies = {name: tensor.detach().clone()[None] for name, tensor in tensors_of(self.model).items()}
        self.optimizer.set_mode("train")
        for name, tensor in own.items():  # what goes on may not notice, and there and back may round
            self.params[name].copy_(tensor)
        return copies

    def keep(self, positions: Sequence[int]) -> None:
        assert list(positions) == [0], "a single trial either goes on or ends"

    def state_bytes(self) -> int:
        return self.optimizer.state_bytes()

    def state(self) -> Mapping[str, object]:
        return {
            "num_steps": self.num_steps,
            "params": dict(self.model.named_parameters()),
            "buffers": dict(self.model.named_buffers()),
            "optimizer": self.optimizer.state(),
            "data": self.indices.state(),
            "global": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.trial.device) if self.on_cuda else None,
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        self.num_steps = state["num_steps"]
        for kind, tensors in (("params", self.model.named_parameters()), ("buffers", self.model.named_buffers())):
            for name, tensor in tensors:
                tensor.copy_(state[kind][name])
        self.optimizer.restore(state["optimizer"])
        self.indices.restore(state["data"])
        torch.set_rng_state(state["global"])
        if self.on_cuda:
            torch.cuda.set_rng_state(state["cuda"], self.trial.device)
