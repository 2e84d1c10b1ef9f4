"""Tasks whose optimum is known: it is where the task says, and an optimizer gets there."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from tasks.base import Task
from tasks.bigram import BigramTask
from tasks.graph import GraphTask, algebraic_connectivity
from tasks.matrix_factorization import MatrixFactorizationTask, load_heights
from tasks.mnist1d import generate
from tasks.poisson_pinn import PoissonTask
from tasks.quadratic import QuadraticTask
from tasks.resnet_bn import ResNetBNTask
from tasks.rosenbrock import RosenbrockTask
from tasks.sequence import SequenceTask
from tasks.tabular import TabularTask

CPU = torch.device("cpu")


def build(task: Task) -> nn.Module:
    return task.build_model(torch.Generator().manual_seed(0))


def measure(task: Task, model: nn.Module) -> float:
    return task.evaluate(model, "val", full=True)["val_loss"].item()


def minimise(task: Task, model: nn.Module, num_steps: int) -> None:
    """L-BFGS on the first batch, for tasks whose batches are all the same or are the objective itself."""
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=num_steps,
        line_search_fn="strong_wolfe",
        history_size=20,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
    )
    batch = task.batch("train", task.sample(torch.Generator().manual_seed(0)))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        return loss

    optimizer.step(closure)


def test_an_optimizer_reaches_the_quadratics_optimum() -> None:
    task = QuadraticTask(rows=8, columns=4, condition_number=1000.0, noise=0.0, batch_size=1, device=CPU)
    model = build(task).double()
    minimise(task, model, 200)
    assert 0 <= measure(task, model) < 1e-13
    torch.testing.assert_close(model(), task.optimum.double(), rtol=0, atol=1e-5)


def test_an_optimizer_reaches_rosenbrocks_optimum() -> None:
    task = RosenbrockTask(dimensions=16, batch_size=1, device=CPU)
    model = build(task).double()
    minimise(task, model, 200)
    assert 0 <= measure(task, model) < 1e-13
    torch.testing.assert_close(model(), torch.ones(16, dtype=torch.float64), rtol=0, atol=1e-5)


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


def test_the_atlas_holds_every_connected_graph_of_two_to_seven_nodes() -> None:
    task = GraphTask(width=4, num_layers=1, batch_size=4, device=CPU)
    counts = Counter(
        int((adjacency.sum(-1) > 0).sum())
        for split in task.splits.values()
        for adjacency in split[0]  # type: ignore[attr-defined]
    )
    assert counts == {2: 1, 3: 2, 4: 6, 5: 21, 6: 112, 7: 853}  # OEIS A001349


@pytest.mark.parametrize(
    ("edges", "num_nodes", "connectivity"),
    [
        ([(0, 1), (1, 2), (0, 2)], 3, 3.0),  # the complete graph: its number of nodes
        ([(0, 1), (0, 2), (0, 3), (0, 4)], 5, 1.0),  # a star
        ([(n, n + 1) for n in range(6)], 7, 2 - 2 * math.cos(math.pi / 7)),  # a path
        ([(0, 1), (2, 3)], 4, 0.0),  # two parts
        ([(0, 1)], 3, 0.0),  # a node on its own
    ],
)
def test_algebraic_connectivity_is_that_of_graphs_with_a_formula(
    edges: list[tuple[int, int]], num_nodes: int, connectivity: float
) -> None:
    adjacency = torch.zeros(1, 7, 7, dtype=torch.int8)
    for a, b in edges:
        adjacency[0, a, b] = adjacency[0, b, a] = 1
    found = algebraic_connectivity(adjacency, torch.tensor([num_nodes])).item()
    assert found == pytest.approx(connectivity, abs=1e-12)


def test_a_graph_is_seen_alike_however_its_nodes_are_numbered() -> None:
    task = GraphTask(width=8, num_layers=2, batch_size=4, device=CPU)
    model = build(task).double()
    adjacency = task.splits["val"][0][:20]
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(adjacency), model(adjacency[:, order][:, :, order]), rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module")
def poisson() -> PoissonTask:
    return PoissonTask(width=16, num_layers=2, boundary_weight=100.0, batch_size=256, device=CPU)


def test_the_laplacian_of_the_network_is_that_of_autograd(poisson: PoissonTask) -> None:
    model = build(poisson).double()
    points = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, laplacian = model(points)
    for point, value in zip(points, laplacian, strict=True):
        hessian = torch.autograd.functional.hessian(lambda x: model(x.unsqueeze(0))[0].squeeze(), point)
        assert value.item() == pytest.approx(hessian.trace().item(), rel=1e-9)  # type: ignore[union-attr]


def test_poissons_solution_has_no_residual_and_no_error(poisson: PoissonTask) -> None:
    def solution(points: Tensor) -> tuple[Tensor, Tensor]:
        u = torch.sin(math.pi * points.double()).prod(-1)
        return u, -2 * math.pi**2 * u

    grid = poisson.batch("val", torch.tensor([0]))
    measured = poisson.metrics(solution, grid)  # type: ignore[arg-type]
    assert measured["loss"].item() == pytest.approx(0.0, abs=1e-9)
    assert measured["error"].item() == pytest.approx(0.0, abs=1e-12)
    inner, border = poisson.batch("train", poisson.sample(torch.Generator().manual_seed(0)))
    assert 0 < inner.min() < inner.max() < 1
    assert ((border == 0) | (border == 1)).any(1).all()
    assert {tuple(side) for side in torch.stack([border == 0, border == 1], 1).flatten(1).long().tolist()} >= {
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, 0, 1, 0),
        (0, 0, 0, 1),
    }


@pytest.mark.slow
def test_an_optimizer_solves_poissons_equation_to_one_percent(poisson: PoissonTask) -> None:
    model = build(poisson).double()
    minimise(poisson, model, 600)
    error = poisson.evaluate(model, "val", full=True)["val_error"].item()
    assert math.sqrt(error) < 1e-2


def test_mnist1d_is_the_published_data_set() -> None:
    signals, labels = generate()
    assert signals.shape == (5000, 40)
    assert Counter(labels.tolist()) == dict.fromkeys(range(10), 500)
    # Of make_dataset() of the package mnist1d 0.0.2.post1.
    assert signals[0, :3].tolist() == pytest.approx(
        [-0.3320056673693902, -0.4719103656557236, -0.778697076293495], rel=1e-9
    )
    assert labels[:8].tolist() == [2, 6, 4, 5, 6, 6, 6, 0]


def test_logistic_regression_gets_the_published_accuracy_on_mnist1d() -> None:
    task = SequenceTask(model="cnn", width=1, batch_size=1, device=CPU)
    signals, labels = (torch.cat([task.splits[part][side] for part in ("train", "val")]) for side in (0, 1))
    accuracy = LogisticRegression(max_iter=200).fit(signals, labels).score(*task.splits["test"])
    assert accuracy == pytest.approx(0.32, abs=0.03)  # of 1,000 signals, two standard errors


def test_without_its_extra_a_task_is_refused_in_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.tensors.find_spec", lambda _: None)
    for make in (
        lambda: TabularTask(width=4, num_layers=1, batch_size=4, device=CPU),
        lambda: ResNetBNTask(data="mnist_5k", width=4, split_seed=0, batch_size=4, device=CPU),
    ):
        with pytest.raises(ValueError, match=r"pip install 'fairstep\[data\]', in a clone .* '\.\[data\]'$") as caught:
            make()
        assert "\n" not in str(caught.value)
