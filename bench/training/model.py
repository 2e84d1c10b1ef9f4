"""The model of a trial: its initial weights, its precision, and its tensors by name."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from bench.config.schema import TrialConfig
from bench.training.components import Task
from bench.training.seeds import make_generator

DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}


def build_model(task: Task, trial: TrialConfig) -> nn.Module:
    """The trial's model with its initial weights, in the trial's precision, to which the GPU's products are set too.

    Tensors that are plain attributes of its modules become buffers: they move with the model, and a pack has those of
    every trial.

    Raises:
        ValueError: there is nothing to train.
    """
    model = task.build_model(make_generator(trial.seed, trial.task.name, "init"))
    for module in model.modules():
        for name in [name for name, value in vars(module).items() if isinstance(value, Tensor)]:
            value = vars(module).pop(name)
            module.register_buffer(name, value.to(trial.device), persistent=False)
    if not trainable(model):
        raise ValueError(f"task={trial.task.name}: its model has no parameter that requires a gradient")
    set_tf32(trial.precision)
    return model.to(DTYPES[trial.precision])


def set_tf32(precision: str) -> None:
    """Let a GPU round the factors of float32 products to TF32 in mixed precision, and nowhere else."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "bfloat16"
    torch.backends.cudnn.allow_tf32 = precision == "bfloat16"


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are not frozen, by name; tied ones once."""
    return {name: param for name, param in model.named_parameters() if param.requires_grad}


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, frozen ones too, and buffers, by name; tied ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def autocast(trial: TrialConfig) -> AbstractContextManager[Any]:
    """Mixed precision for forward passes where the trial asks for bfloat16."""
    if trial.precision != "bfloat16":
        return nullcontext()
    return torch.autocast(torch.device(trial.device).type, dtype=torch.bfloat16)
