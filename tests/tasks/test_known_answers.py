"""Tasks whose optimum is known: it is where the task says, and an optimizer gets there."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tasks.base import Task
from tasks.bigram import BigramTask
from tasks.matrix_factorization import MatrixFactorizationTask, load_heights

CPU = torch.device("cpu")


def build(task: Task) -> nn.Module:
    return task.build_model(torch.Generator().manual_seed(0))


def measure(task: Task, model: nn.Module) -> float:
    return task.evaluate(model, "val", full=True)["val_loss"].item()


def minimise(task: Task, model: nn.Module, num_steps: int) -> None:
    """L-BFGS on the first batch, for tasks whose batches are all the same or are the objective itself."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=num_steps, line_search_fn="strong_wolfe", history_size=20
    )
    batch = task.batch("train", task.sample(torch.Generator().manual_seed(0)))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.fixture(scope="module")
def heights() -> MatrixFactorizationTask:
    return MatrixFactorizationTask(rank=4, batch_size=1, device=CPU)


def test_the_truncated_svd_is_the_optimum_of_matrix_factorization(heights: MatrixFactorizationTask) -> None:
    model = build(heights).double()
    left, values, right = np.linalg.svd(heights.matrix.numpy(), full_matrices=False)
    roots = np.sqrt(values[:4] / heights.gain)
    with torch.no_grad():
        model.get_parameter("left").copy_(torch.from_numpy(left[:, :4] * roots))
        model.get_parameter("right").copy_(torch.from_numpy(right[:4].T * roots))
    assert measure(heights, model) == pytest.approx(0.0, abs=1e-14)
    loss = heights.loss(model, heights.batch("train", torch.tensor([0])))
    loss.backward()
    assert max(parameter.grad.abs().max().item() for parameter in model.parameters()) < 1e-12  # type: ignore[union-attr]


def test_matrix_factorization_starts_near_the_variance_that_rank_4_explains(heights: MatrixFactorizationTask) -> None:
    values = np.linalg.svd((load_heights() - load_heights().mean()).astype(float), compute_uv=False)
    explained = (values[:4] ** 2).sum() / (values**2).sum()
    assert measure(heights, build(heights)) == pytest.approx(explained, rel=0.02)


def test_an_optimizer_reaches_the_svd_to_seven_digits(heights: MatrixFactorizationTask) -> None:
    model = build(heights).double()
    minimise(heights, model, 80)
    assert 0 <= measure(heights, model) < 1e-7


@pytest.fixture
def fox(tmp_path: Path) -> tuple[BigramTask, str]:
    text = "the quick brown fox jumps over the lazy dog\n" * 3 + "aababb"
    path = tmp_path / "text.txt"
    path.write_text(text)
    return BigramTask(data="text", path=str(path), batch_size=4, device=CPU), text


def test_bigrams_optimum_is_the_conditional_entropy_counted_by_hand(fox: tuple[BigramTask, str]) -> None:
    task, text = fox
    pairs, firsts = Counter(pairwise(text)), Counter(text[:-1])
    num_pairs = len(text) - 1
    entropy = -sum(count / num_pairs * math.log(count / firsts[pair[0]]) for pair, count in pairs.items())
    assert task.entropy == pytest.approx(entropy, rel=1e-12)
    assert measure(task, build(task)) == pytest.approx(math.log(task.vocabulary_size) - entropy, abs=0.01)


def test_bigrams_loss_over_all_pairs_is_the_mean_of_single_pairs(fox: tuple[BigramTask, str]) -> None:
    task, _ = fox
    model = build(task).double()
    all_pairs = task.batch("train", torch.arange(task.num_train))
    assert measure(task, model) == pytest.approx(task.loss(model, all_pairs).item(), abs=1e-12)


def test_an_optimizer_reaches_bigrams_entropy_and_nothing_is_below(fox: tuple[BigramTask, str]) -> None:
    task, _ = fox
    model = build(task).double()
    task.sample = lambda _: torch.arange(task.num_train)  # type: ignore[method-assign]
    minimise(task, model, 100)
    assert 0 <= measure(task, model) < 1e-4
