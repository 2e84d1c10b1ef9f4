"""Indices drawn ahead are the indices of every step, and a checkpoint does not see how far ahead they are."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.training import batches
from bench.training.batches import IndexStream


class Dice:
    """A task as far as the stream asks: an index with as many draws as a batch with augmentation has."""

    def sample(self, generator: torch.Generator) -> Tensor:
        picks = torch.randint(1000, (3,), generator=generator)
        return torch.cat([picks, torch.randint(2, (2,), generator=generator)])


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(stream: IndexStream, num_steps: int) -> Tensor:
    return torch.stack([stream.next() for _ in range(num_steps)])


@pytest.fixture(params=[1, 4, 64])
def stream(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., IndexStream]:
    monkeypatch.setattr(batches, "MAX_BLOCK_STEPS", request.param)
    return lambda *seeds: IndexStream(Dice(), generators(*seeds), "cpu")


def test_numbers_are_those_of_drawing_step_by_step(stream: Callable[..., IndexStream]) -> None:
    own = generators(1, 2)
    one_by_one = [torch.stack([Dice().sample(generator) for generator in own]) for _ in range(10)]
    assert torch.equal(draw(stream(1, 2), 10), torch.stack(one_by_one))


@pytest.mark.parametrize("num_taken", [0, 1, 4, 7])
def test_a_state_is_that_of_the_steps_taken(stream: Callable[..., IndexStream], num_taken: int) -> None:
    undisturbed = draw(stream(1, 2), 12)
    first, second = stream(1, 2), stream(8, 9)
    for _ in range(num_taken):
        first.next()
    plain = generators(1)[0]
    for _ in range(num_taken):
        Dice().sample(plain)
    assert torch.equal(first.state()[0], plain.get_state())
    second.restore(first.state())
    assert torch.equal(draw(second, 12 - num_taken), undisturbed[num_taken:])
    assert torch.equal(draw(first, 12 - num_taken), undisturbed[num_taken:]), "asking for the state moves nothing"


def test_trials_that_stay_see_what_they_would_have_seen(stream: Callable[..., IndexStream]) -> None:
    undisturbed, own = draw(stream(1, 2, 3), 10), stream(1, 2, 3)
    before = draw(own, 3)
    own.keep([0, 2])
    after = draw(own, 7)
    assert torch.equal(before, undisturbed[:3])
    assert torch.equal(after, undisturbed[3:, [0, 2]])


def test_what_is_drawn_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BLOCK_NUMBERS", 25)
    stream = IndexStream(Dice(), generators(1, 2), "cpu")
    stream.next()
    assert len(stream._block) == 2
