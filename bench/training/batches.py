"""Which examples each trial trains on, drawn some steps ahead, so that a device waits for one copy in many steps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.training.components import Task

MAX_BLOCK_STEPS, MAX_BLOCK_NUMBERS = 64, 2**20  # ahead, whichever is less; a number takes 8 bytes


class IndexStream:
    """The indices of the training batches of K trials, the same whoever else trains and however far they are drawn.

    Args:
        task: draws the index of one batch from a generator.
        generators: one per trial, on the CPU; they run ahead of the steps.
        device: where the indices go, without waiting for the copy; nowhere if the task's data stay on the CPU, as its
            `index_device` says.
    """

    def __init__(self, task: Task, generators: Sequence[torch.Generator], device: str) -> None:
        self.task, self.generators, self.device = task, list(generators), torch.device(device)
        self.device = getattr(task, "index_device", self.device)
        self._begin()

    def _begin(self) -> None:
        """Forget what is drawn ahead of the generators' states."""
        self._states = [generator.get_state() for generator in self.generators]
        self._block: Sequence[Tensor] = ()
        self._num_taken = 0

    def next(self) -> Tensor:
        """Indices of the next step, `[K, ...]` on the device."""
        if self._num_taken == len(self._block):
            self._begin()
            self._block = self._draw()
        self._num_taken += 1
        return self._block[self._num_taken - 1]

    def _draw(self) -> Sequence[Tensor]:
        steps = [self._draw_step()]
        num_steps = min(MAX_BLOCK_STEPS, max(1, MAX_BLOCK_NUMBERS // max(1, steps[0].numel())))
        steps += [self._draw_step() for _ in range(num_steps - 1)]
        if self.device.type == "cpu":
            return steps
        block = torch.stack(steps)
        block = block.pin_memory() if self.device.type == "cuda" else block
        return block.to(self.device, non_blocking=True).unbind()

    def _draw_step(self) -> Tensor:
        return torch.stack([self.task.sample(generator) for generator in self.generators])

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with the trials at these positions."""
        states = self.state()
        self.generators = [self.generators[position] for position in positions]
        self.restore([states[position] for position in positions])

    def state(self) -> list[Tensor]:
        """Each generator's state as if nothing had been drawn ahead of the last step."""
        replayed = torch.Generator()
        states = []
        for state in self._states:
            replayed.set_state(state)
            for _ in range(self._num_taken):
                self.task.sample(replayed)
            states.append(replayed.get_state())
        return states

    def restore(self, states: Sequence[Tensor]) -> None:
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)
        self._begin()
