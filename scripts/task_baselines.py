"""What a simple model without any optimizer to compare gets on a task: the floor that a trained one must pass."""

from collections.abc import Callable

import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor

from tasks.autoencoder import AutoencoderTask
from tasks.base import Task
from tasks.bigram import BigramTask
from tasks.gpt_nano import GPTTask, bigram_loss
from tasks.tensors import TensorTask

Baseline = tuple[str, float]


def baseline_of(name: str, task: Task) -> Baseline:
    """What the simple model is, and its `val_loss` (its `val_error` on poisson_pinn)."""
    return BASELINES[name](task)


def _examples(task: Task, split: str) -> tuple[Tensor, Tensor]:
    assert isinstance(task, TensorTask)
    inputs, labels = task.splits[split][:2]
    return inputs.flatten(1).cpu(), labels.cpu()


def _logistic(task: Task) -> Baseline:
    x, y = _examples(task, "train")
    model = LogisticRegression(C=0.01, max_iter=300).fit(x[::3], y[::3])
    x, y = _examples(task, "val")
    return f"logistic regression ({model.score(x, y):.1%} right)", log_loss(y, model.predict_proba(x))


def _linear(task: Task) -> Baseline:
    model = LinearRegression().fit(*_examples(task, "train"))
    x, y = _examples(task, "val")
    return "linear regression", float(((torch.from_numpy(model.predict(x)) - y) ** 2).mean())


def _principal_components(task: Task) -> Baseline:
    assert isinstance(task, AutoencoderTask)
    model = PCA(task.code).fit(_examples(task, "train")[0])
    x, _ = _examples(task, "val")
    restored = torch.from_numpy(model.inverse_transform(model.transform(x)))
    return f"{task.code} principal components", float(((restored - x) ** 2).mean())


def _mean_colour(task: Task) -> Baseline:
    _, colours = _examples(task, "train")
    return "the mean colour", float(((_examples(task, "val")[1] - colours.mean(0)) ** 2).mean())


def _unigram(task: Task) -> Baseline:
    assert isinstance(task, BigramTask)
    share = task.next_counts / task.next_counts.sum()
    return "frequencies of single characters", float(-torch.xlogy(share, share).sum()) - task.entropy


def _count_model(task: Task) -> Baseline:
    assert isinstance(task, GPTTask)
    return "a bigram count model", bigram_loss(task)


BASELINES: dict[str, Callable[[Task], Baseline]] = {
    "quadratic": lambda task: ("none: the optimum is 0", float("nan")),
    "rosenbrock": lambda task: ("none: the optimum is 0", float("nan")),
    "matrix_factorization": lambda task: ("none: the optimum is 0", float("nan")),
    "poisson_pinn": lambda task: ("u = 0", 1.0),
    "bigram": _unigram,
    "image_inr": _mean_colour,
    "graph": _linear,
    "autoencoder": _principal_components,
    "mlp": _logistic,
    "vit": _logistic,
    "resnet_bn": _logistic,
    "sequence": _logistic,
    "tabular": _linear,
    "gpt_nano": _count_model,
    "cifar": lambda task: ("chance (10 % right)", 2.303),
}
