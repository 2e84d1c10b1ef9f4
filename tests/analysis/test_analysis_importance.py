"""Importances of hyperparameters: what matters comes first, what does nothing has none, and noise explains nothing."""

from collections.abc import Callable

import numpy as np

from bench.analysis.importance import MIN_EXPLAINED, MIN_TRIALS, importances
from tests.analysis.frames_for_tests import cell_frame

Loss = Callable[[float, float, np.random.Generator], float]


def table_of(loss: Loss, num_trials: int = 40, is_search: bool = True):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    cells = []
    for _ in range(num_trials):
        lr, decay = 10 ** rng.uniform(-4, -1), rng.uniform(0, 1)
        cells.append(({"optimizer.lr": lr, "optimizer.decay": decay}, loss(np.log10(lr), decay, rng)))
    return importances(cell_frame(cells, is_search=is_search)).set_index("key")


def test_the_key_that_decides_is_important_and_the_one_that_does_nothing_is_not() -> None:
    table = table_of(lambda log_lr, decay, rng: (log_lr + 2.5) ** 2)
    assert table.loc["optimizer.lr", "low"] > 0.5
    assert abs(table.loc["optimizer.decay", "importance"]) < 0.1
    assert (table["explained"] > 0.7).all()
    assert (table["num_trials"] == 40).all()


def test_a_diverged_trial_counts_as_the_worst_and_no_more() -> None:
    table = table_of(lambda log_lr, decay, rng: np.inf if log_lr > -1.5 else -log_lr)
    assert table.loc["optimizer.lr", "importance"] > 0.5


def test_pure_noise_is_not_explained() -> None:
    assert (table_of(lambda log_lr, decay, rng: rng.standard_normal())["explained"] < MIN_EXPLAINED).all()


def test_short_searches_and_grids_have_no_importances() -> None:
    assert table_of(lambda log_lr, decay, rng: log_lr, num_trials=MIN_TRIALS - 1).empty
    assert table_of(lambda log_lr, decay, rng: log_lr, is_search=False).empty
