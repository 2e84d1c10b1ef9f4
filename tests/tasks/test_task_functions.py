"""The closed-form tasks and the digits, against their definitions."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from tasks.base import data_fingerprint
from tasks.mlp import MLPTask
from tasks.quadratic import QuadraticTask
from tasks.rosenbrock import RosenbrockTask

CPU = torch.device("cpu")


def make_quadratic(**changes: Any) -> QuadraticTask:
    options: dict[str, Any] = {"rows": 6, "columns": 4, "condition_number": 100.0, "noise": 0.0, "batch_size": 1}
    return QuadraticTask(**(options | changes), device=CPU)


def make_mlp(**changes: Any) -> MLPTask:
    return MLPTask(**({"width": 16, "split_seed": 0, "batch_size": 8} | changes), device=CPU)


def test_quadratic_has_the_spectrum_that_it_says() -> None:
    task = make_quadratic(columns=1)
    model = task.build_model(torch.Generator().manual_seed(0)).double()
    batch = task.batch("val", torch.zeros(1, dtype=torch.int64))

    def loss_of_bias(bias: torch.Tensor) -> torch.Tensor:
        return task.loss(lambda: torch.stack([bias, bias], dim=1), batch)  # type: ignore[arg-type]

    hessian = torch.autograd.functional.hessian(loss_of_bias, torch.zeros(6, dtype=torch.float64))
    assert isinstance(hessian, torch.Tensor)
    eigenvalues = torch.linalg.eigvalsh(hessian) / 2  # two columns share the vector
    torch.testing.assert_close(eigenvalues, torch.logspace(-2, 0, 6, dtype=torch.float64), rtol=1e-5, atol=0)
    assert task.loss(model, batch) > 0


def test_quadratic_is_zero_with_zero_gradient_at_its_optimum() -> None:
    task = make_quadratic()
    model = task.build_model(torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.get_parameter("weight").copy_(task.optimum[:, :-1])
        model.get_parameter("bias").copy_(task.optimum[:, -1])
    loss = task.loss(model, task.batch("train", torch.tensor([0])))
    loss.backward()
    assert loss.item() == 0.0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_quadratic_noise_has_its_size_and_leaves_the_optimum_alone() -> None:
    task = make_quadratic(noise=0.5)
    table = torch.stack([task.batch("train", torch.tensor([number])) for number in range(task.num_train)])  # type: ignore[arg-type]
    assert table.std(0).mean().item() == pytest.approx(0.5, rel=0.02)
    assert table.mean(0).abs().max().item() < 1e-6
    assert not task.batch("val", torch.tensor([0])).any()  # type: ignore[union-attr]


def test_rosenbrock_is_zero_at_ones_and_matches_its_formula() -> None:
    task = RosenbrockTask(dimensions=5, batch_size=1, device=CPU)
    index = torch.tensor([0])
    assert task.loss(lambda: torch.ones(5), index).item() == 0.0  # type: ignore[arg-type]
    x = [0.3, -1.2, 0.5, 2.0, -0.1]
    expected = sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(x))
    assert task.loss(lambda: torch.tensor(x), index).item() == pytest.approx(expected, rel=1e-6)  # type: ignore[arg-type]


def test_digits_split_is_disjoint_and_set_by_its_own_seed() -> None:
    first, again, other = make_mlp(), make_mlp(), make_mlp(split_seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert make_mlp(width=32).fingerprint == first.fingerprint
    assert first.num_val == 500
    plain = first.num_train // 9
    assert plain == 1797 - 500 - 400
    centre = torch.arange(4 * plain, 5 * plain)  # the shift by (0, 0)
    train, _ = first.batch("train", centre)
    val, _ = first.batch("val", torch.arange(500))
    test, _ = first.batch("test", torch.arange(400))
    rows = [{tuple(row) for row in images.tolist()} for images in (train, val, test)]
    assert len(set.union(*rows)) == sum(map(len, rows))


def test_digits_are_shifted_by_one_pixel_with_their_labels() -> None:
    task = make_mlp()
    plain = task.num_train // 9
    images, labels = task.batch("train", torch.arange(9) * plain + 7)
    centre = images[4].view(8, 8)
    assert labels.unique().numel() == 1
    assert images.abs().max() <= 1
    right_down = images[0].view(8, 8)
    assert torch.equal(right_down[1:, 1:], centre[:-1, :-1])
    assert (right_down[0] == -1).all()


def test_initial_loss_of_a_classifier_is_that_of_an_even_guess() -> None:
    task = make_mlp()
    metrics = task.evaluate(task.build_model(torch.Generator().manual_seed(0)), "val", full=True)
    assert metrics["val_loss"].item() == pytest.approx(math.log(10), abs=0.1)
    assert metrics["val_accuracy"].item() < 0.3


@pytest.mark.parametrize(
    ("make", "key", "value"),
    [
        (make_quadratic, "rows", 1),
        (make_quadratic, "columns", 0),
        (make_quadratic, "condition_number", 0.5),
        (make_quadratic, "condition_number", math.inf),
        (make_quadratic, "condition_number", "large"),
        (make_quadratic, "noise", -0.1),
        (make_quadratic, "noise", math.nan),
        (make_mlp, "width", 0),
        (make_mlp, "split_seed", -1),
        (make_mlp, "split_seed", 0.5),
    ],
)
def test_bad_options_are_one_line_naming_key_and_value(make: Any, key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{key}={value!r}: expected ") as caught:
        make(**{key: value})
    assert "\n" not in str(caught.value)


def test_fingerprint_depends_on_bytes_their_cut_and_options_but_not_on_order() -> None:
    reference = data_fingerprint(b"ab", b"c", x=1, y=2)
    assert data_fingerprint(b"ab", b"c", y=2, x=1) == reference
    assert len({reference, data_fingerprint(b"a", b"bc", x=1, y=2), data_fingerprint(b"ab", b"c", x=1, y=3)}) == 3
