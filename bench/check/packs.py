"""Whether trials may train together, and tensors share a call."""

import torch

from bench.check.subject import (
    MATRICES,
    CheckFailed,
    NotApplicable,
    Subject,
    largest_difference,
    make_grads,
    make_params,
    require,
)
from bench.training.ensemble_optimizer import has_rules
from bench.training.proof import NotPackableError, is_shipped, prove_optimizer

NUM_STEPS = 8
LRS = (0.3, 1.0, 2.0)  # of the configured one, for the trials of a pack
HALF = 0.05  # of a movement, what rounding in bfloat16 may cost our own Newton-Schulz iterations


def check_packs(subject: Subject) -> str:
    """Trials that train as one pack move as they do alone."""
    config = subject.config
    if config is None or config.needs_closure:
        raise NotApplicable("a closure is for one model" if config else "has no configuration")
    if config.base is not None:
        raise NotApplicable("trains one by one: it is put around another optimizer")
    lr = float(config.hyperparameters.get("lr", 1e-3))
    parts = config.model_dump(by_alias=True, include={"name", "class_path"}) | dict(config.hyperparameters)
    configs = [type(config).model_validate({**parts, "lr": factor * lr}) for factor in LRS]
    shapes = subject.named_shapes()
    labels = {name: "vector" if len(shape) < 2 else "matrix" for name, shape in shapes.items()}
    try:
        prove_optimizer(configs, shapes, labels)
    except NotPackableError as error:
        ours = has_rules(subject.owner)
        if ours and is_shipped(subject.owner) and error.share < HALF:
            return f"within {error.share:.1g} of the way, as it computes in bfloat16"
        if ours:
            raise CheckFailed(str(error)) from error
        raise NotApplicable(f"trains one by one: {error}") from error
    return f"{len(shapes)} tensors of {len(configs)} trials, 8 steps: equal to 1e-9"


def check_separate_tensors(subject: Subject) -> str:
    """A tensor moves the same whether others are updated with it or not."""
    dtype = torch.float64
    together = make_params(MATRICES, dtype)
    optimizer = subject.start(together)
    separate = make_params(MATRICES, dtype)
    optimizers = [subject.start([param]) for param in separate]
    for step in range(NUM_STEPS):
        grads = make_grads(together, step)
        subject.step(optimizer, together, grads)
        for param, own, grad in zip(separate, optimizers, grads, strict=True):
            subject.step(own, [param], [grad])
    start = make_params(MATRICES, dtype)
    error = largest_difference(together, separate) / max(largest_difference(separate, start), 1e-300)
    layout = getattr(getattr(subject.owner, "rule", None), "layout", None)
    if error > 1e-9 and (layout == "whole" or not has_rules(subject.owner)):
        raise NotApplicable("its step depends on all parameters together")
    allowed = HALF if is_shipped(subject.owner) else 1e-9
    require(error <= allowed, f"moves elsewhere beside other tensors: {error:.1g} of the way off")
    return "bitwise equal" if error == 0 else f"equal to {error:.1g} of the way"
