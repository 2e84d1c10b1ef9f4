"""From a task's configuration to the task itself, its data loaded onto the device."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bench.config import TaskConfig
from bench.errors import ConfigError
from bench.importing import bind_options, locate


@runtime_checkable
class Task(Protocol):
    """What the harness asks of a task: see `tasks.base.Task`, which need not be inherited from."""

    fingerprint: str

    def build_model(self, generator: torch.Generator) -> nn.Module: ...
    def sample(self, generator: torch.Generator) -> Tensor: ...
    def batch(self, split: str, index: Tensor) -> Any: ...
    def loss(self, model: nn.Module, batch: Any) -> Tensor: ...
    def evaluate(self, model: nn.Module, *, full: bool) -> Mapping[str, Tensor]: ...
    def param_labels(self, model: nn.Module) -> Mapping[str, str]: ...


def load_task(config: TaskConfig, device: str) -> Task:
    """Build the task that `config` names, on `device`.

    Raises:
        ConfigError: a class that cannot be imported, an option that it refuses, data that is not there.
    """
    task_class = locate(config.target_class, "task._target_")
    bind_options(task_class, {**config.options, "device": device}, "task", num_positional=0)
    try:
        task = task_class(device=torch.device(device), **config.options)
    except Exception as error:  # foreign code and foreign data: whatever they raise is told in one line
        text = str(error) or type(error).__name__
        raise ConfigError.of_line(text if text.startswith("task.") else f"task={config.name}: {text}") from error
    if not isinstance(task, Task):
        raise ConfigError("task._target_", config.target_class, "expected a class with the methods of tasks.base.Task")
    return task
