"""From a task's configuration to the task itself, its data loaded onto the device."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bench.config.schema import ScheduleConfig
from bench.config.targets import bind_options, locate, signature_text
from bench.config.task import TaskConfig
from bench.errors import ConfigError, OptionError


@runtime_checkable
class Task(Protocol):
    """What the harness asks of a task: see `tasks.base.Task`, which need not be inherited from."""

    fingerprint: str
    metric_names: Sequence[str]

    def build_model(self, generator: torch.Generator) -> nn.Module: ...
    def sample(self, generator: torch.Generator) -> Tensor: ...
    def batch(self, split: str, index: Tensor) -> Any: ...
    def loss(self, model: nn.Module, batch: Any) -> Tensor: ...
    def evaluate(self, model: nn.Module, split: str, *, full: bool) -> Mapping[str, Tensor]: ...
    def param_labels(self, model: nn.Module) -> Mapping[str, str]: ...


def load_task(config: TaskConfig, device: str) -> Task:
    """Build the task that `config` names, on `device`.

    Raises:
        ConfigError: a class that cannot be imported, an option that it refuses, data that is not there.
    """
    task_class = locate(config.class_path, "task._target_")
    bind_options(task_class, {**config.options, "device": device}, "task", num_positional=0)
    try:
        task = task_class(device=torch.device(device), **config.options)
    except OptionError as error:
        raise ConfigError(f"task.{error.name}", error.value, error.allowed) from error
    except Exception as error:  # foreign code and foreign data: whatever they raise is told in one line
        text = str(error) or type(error).__name__
        raise ConfigError.of_line(text if text.startswith("task.") else f"task={config.name}: {text}") from error
    if not isinstance(task, Task):
        raise ConfigError("task._target_", config.class_path, "expected a class with the methods of tasks.base.Task")
    return task


def check_target(config: TaskConfig, task: Task) -> None:
    """Raises ConfigError if the target is set on a metric that the task does not measure."""
    measured = [f"val_{name}" for name in task.metric_names]
    if config.target.metric not in measured:
        raise ConfigError("task.target.metric", config.target.metric, f"expected one of {', '.join(measured)}")


def build_schedule(config: ScheduleConfig, num_steps: int) -> Callable[[int], float]:
    """The factor on every lr as a function of the 1-based step.

    Raises:
        ConfigError: a target that cannot be imported or gives no number, an option it does not have, a fraction outside
            [0, 1].
    """
    function = locate(config.class_path, "schedule._target_")
    bind_options(function, {**config.options, "step": 1, "num_steps": num_steps}, "schedule", num_positional=0)
    for name, value in config.options.items():
        is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        if name.endswith(("_fraction", "_factor")) and not is_share:
            raise ConfigError(f"schedule.{name}", value, "expected a number from 0 to 1")

    def factor(step: int) -> float:
        return float(function(step=step, num_steps=num_steps, **config.options))

    try:
        first = factor(1)
    except Exception as error:  # foreign code: whatever it raises is told in one line
        text = f"fails at step 1: {type(error).__name__}: {error}; signature: {signature_text(function)}"
        raise ConfigError("schedule._target_", config.class_path, text) from error
    if not math.isfinite(first):
        raise ConfigError("schedule._target_", config.class_path, f"gives {first} at step 1; expected a finite number")
    return factor


class TaskShelf:
    """Loaded tasks, each once however many trials share it."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    def get(self, config: TaskConfig, device: str) -> Task:
        key = repr((config.class_path, sorted(config.options.items()), device))
        if key not in self._tasks:
            self._tasks[key] = load_task(config, device)
        return self._tasks[key]
