"""The final weights of a run: a file of safetensors beside its metrics, where `save_weights=true` asked for it."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from bench.runs.folders import READ_ERRORS, WEIGHTS_FILE, explain, read_checked
from bench.runs.schema import Run
from bench.training.components import load_task
from bench.training.model import build_model, tensors_of

MAX_WEIGHTS_BYTES = 64 * 2**30


def encode_weights(weights: Mapping[str, Tensor]) -> bytes:
    """The file's content."""
    from safetensors.torch import save  # late: few runs have one

    return save({name: tensor.contiguous() for name, tensor in weights.items()})


def load_model(run: Run, device: str) -> nn.Module:
    """The model of a run's task with the run's final weights, in evaluation mode. Executes nothing from the file.

    Raises:
        ConfigError: the task cannot be built, as where its data are missing.
        ValueError: in one line, no weights, damaged ones, or ones of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        saved = load(_read(run))
    except (*READ_ERRORS, SafetensorError) as error:
        raise ValueError(f"{run.folder}: {explain(error)}") from error
    config = run.trial(device)
    model = build_model(load_task(config.task, device), config)
    own = tensors_of(model)
    shapes, expected = ({name: tuple(tensor.shape) for name, tensor in found.items()} for found in (saved, own))
    if wrong := sorted(name for name in shapes | expected if shapes.get(name) != expected.get(name)):
        text = f"{wrong[0]} is {shapes.get(wrong[0])} in the file and {expected.get(wrong[0])} in the model"
        raise ValueError(f"{run.folder}: {WEIGHTS_FILE} is of another model: {text}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])
    return model.eval()


def find_weight_faults(run: Run) -> Iterator[str]:
    """One line where a run's weights are not the ones that were written with it."""
    path = run.folder / WEIGHTS_FILE
    try:
        if WEIGHTS_FILE in run.files:
            _read(run)
        elif path.exists():
            yield f"{WEIGHTS_FILE} is there, and run.json does not list it"
    except READ_ERRORS as error:
        yield explain(error)


def _read(run: Run) -> bytes:
    """The file's content, with the checksum that `run.json` has. Raises READ_ERRORS."""
    if WEIGHTS_FILE not in run.files:
        raise ValueError("stored without weights: train it again with save_weights=true force=true")
    return read_checked(run, WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
