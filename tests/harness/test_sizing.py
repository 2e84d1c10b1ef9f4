"""How trials are cut into packs, how many threads they get, and which worker has which GPU."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from bench.jobs.calibration import Calibration, StepCost
from bench.jobs.plan import Plan
from bench.jobs.processes import gpu_of
from bench.jobs.threads import most_threads, threads_for, use_threads
from bench.training.ensemble import Ensemble
from bench.training.learner import PlainLearner

MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
SEEDS = ["sweep=seeds", "sweep.axes.seed=[range,0,14]"]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """When workers were prepared for, in place of a server that would import all that they need."""
    calls: list[str] = []
    monkeypatch.setattr("bench.jobs.sizing.prepare_workers", lambda: calls.append("prepared"))
    return calls


def test_a_trial_gets_a_thread_for_each_64_million_operations() -> None:
    assert [threads_for(flops, 8) for flops in (1.0, 64e6, 127e6, 128e6, 1e12)] == [1, 1, 1, 2, 8]


def test_trials_that_train_side_by_side_share_the_threads() -> None:
    by_trials = [most_threads(8, number, None) for number in (1, 3, 4, 6, 16, 100)]
    assert by_trials == [8, 8, 4, 2, 1, 1]
    assert [most_threads(8, 100, workers) for workers in (1, 2, 16)] == [8, 4, 1]
    assert most_threads(8, 100, "tcp://host:8786") == 8


def test_threads_are_lent_and_given_back(two_threads: None) -> None:
    for asked, given in ((1, 1), (None, 2), (64, 2)):
        with use_threads(asked):
            assert torch.get_num_threads() == given
        assert torch.get_num_threads() == 2


def test_the_operations_of_a_gradient_are_counted_and_not_timed(plan: MakePlan, small: Small, tmp_path: Any) -> None:
    (trial,) = plan(*small("mlp")).trials
    task = plan(*small("mlp")).tasks.get(trial.config.task, "cpu")
    products = 16 * (64 * 16 + 16 * 16 + 16 * 10)  # multiply-adds of a batch of 16 through the layers
    without_first = products - 16 * 64 * 16  # no gradient with respect to the images
    assert Calibration(tmp_path).gradient_flops(task, trial) == 2 * (2 * products + without_first)


def test_small_trials_train_on_one_thread_in_as_many_even_packs_as_there_are_threads(
    plan: MakePlan, small: Small, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Calibration, "pack_size", lambda *_: (14, 1.0))
    packing = plan(*small("mlp"), *SEEDS, "workers=auto").packing
    assert packing.workers == 2
    assert [(len(pack.trials), pack.num_threads) for pack in packing.packs] == [(7, 1), (7, 1)]


@pytest.mark.parametrize(("num_trials", "packs"), [(14, [(7, 1), (7, 1)]), (3, [(3, 2)])])
def test_large_trials_share_threads_only_where_there_are_few(
    num_trials: int,
    packs: list[tuple[int, int]],
    plan: MakePlan,
    small: Small,
    two_threads: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Calibration, "gradient_flops", lambda *_: 1e12)
    monkeypatch.setattr(Calibration, "pack_size", lambda *_: (num_trials, 1.0))
    packing = plan(*small("mlp"), "sweep=seeds", f"sweep.axes.seed=[range,0,{num_trials}]", "workers=auto").packing
    assert [(len(pack.trials), pack.num_threads) for pack in packing.packs] == packs
    assert packing.workers == len(packs)


def test_trials_that_cannot_be_packed_train_side_by_side(
    plan: MakePlan, small: Small, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Calibration, "step_cost", lambda *_: StepCost(1.0, 0.0, 40))
    packing = plan(*small("mlp"), "sweep=seeds", "sweep.axes.seed=[0]", "+sweep.axes.task.width=[4,8,12,16]").packing
    assert [(len(pack.trials), pack.num_threads) for pack in packing.packs] == [(1, 1)] * 4
    assert packing.workers == 2


def test_a_short_sweep_starts_no_workers(
    plan: MakePlan, small: Small, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Calibration, "pack_size", lambda *_: (14, 1e-4))
    packing = plan(*small("mlp"), *SEEDS, "workers=auto").packing
    assert (packing.workers, [len(pack.trials) for pack in packing.packs]) == (1, [14])


@pytest.mark.parametrize(("step_seconds", "workers", "calls"), [(1e-3, "auto", 0), (1.0, "auto", 1), (1.0, "1", 0)])
def test_workers_begin_to_start_while_a_long_sweep_is_measured(
    step_seconds: float,
    workers: str,
    calls: int,
    plan: MakePlan,
    small: Small,
    two_threads: None,
    prepared: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Calibration, "step_cost", lambda *_: StepCost(step_seconds, 0.0, 40))
    monkeypatch.setattr(Calibration, "pack_size", lambda *_: (14, len(prepared) + 1.0))
    packing = plan(*small("mlp"), *SEEDS, f"workers={workers}").packing
    assert len(prepared) == calls
    assert packing.seconds * packing.workers == 100 * (calls + 1.0)  # by then the packs were not measured yet


@pytest.mark.slow
def test_packs_whose_evaluations_cost_more_than_they_save_are_not_made(
    plan: MakePlan, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(self: Ensemble, split: str, **options: Any) -> None:
        time.sleep(0.2)

    monkeypatch.setattr(Ensemble, "evaluate", pause)
    monkeypatch.setattr(PlainLearner, "evaluate", lambda *_, **options: None)
    monkeypatch.setattr("bench.jobs.calibration.time_steps", lambda _, num_steps, device: [0.01] * num_steps)
    often, seldom = ([*small("mlp"), *SEEDS, f"task.eval_every={every}"] for every in (1, 100))
    assert {len(pack.trials) for pack in plan(*often).packing.packs} == {1}
    assert {len(pack.trials) for pack in plan(*seldom).packing.packs} == {14}


def test_every_worker_has_a_gpu_of_its_own_while_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [gpu_of(number) for number in range(4)] == [0, 1, 2, 0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert gpu_of(1) is None
