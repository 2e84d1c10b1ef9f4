"""A task's section of the configuration: its class, the budget, the target, and what is made hard about it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bench.config.fields import Name, Number, Positive, Seed, Steps
from bench.config.validation import Documentation, OpenSection, Section, allowed
from bench.config.variants import draw_variant
from bench.errors import ConfigError


class Target(Section):
    """What counts as reached: `metric` at or below `value` (mode `min`) or at or above it (mode `max`)."""

    metric: str
    value: Number
    mode: Annotated[Literal["min", "max"], allowed("one of min, max")]

    def is_met(self, value: float) -> bool:
        return value <= self.value if self.mode == "min" else value >= self.value


class Spike(Section):
    """A single bad batch: the gradient of one training step, 1-based, is `factor` times what it would be."""

    step: Steps
    factor: Positive


class TaskConfig(OpenSection):
    """A task class with its own options, and the budget and target that the harness holds it to.

    Attributes:
        relevant: The least difference of the natural logarithm of the final test loss that matters: 0.05 is a ratio of
            1.05, five percent. Relative, because losses span decades within a task (`quadratic`) and differ in unit
            between tasks. The reason for each value stands beside it in the task's yaml. No training reads it.
        tuned_lr: For readers, and for the tests of a task.
        variant: The number of a held-out workload, drawn from `variants`; 0 is the task itself.
        variants: Values of the task's own options from which `variant` draws.
        accumulate: Parts of a batch that go through the model one after the other, to save memory.
        spike: A step whose gradient is multiplied, to see how an optimizer recovers; reported losses do not know it.
    """

    name: Name
    steps: Steps
    eval_every: Steps
    target: Target
    relevant: Annotated[Positive, Documentation]
    loss_scale: Positive
    tuned_lr: Annotated[Any, Documentation] = None
    variant: Seed = 0
    variants: Annotated[dict[str, list[Any]] | None, Documentation, allowed("lists of values by option, or null")] = (
        None
    )
    accumulate: Annotated[int, Field(ge=1, le=65_536), allowed("a whole number from 1 to 65,536")] = 1
    spike: Spike | None = None

    @model_validator(mode="before")
    @classmethod
    def _draw_variant(cls, mapping: Any) -> Any:
        return draw_variant(mapping) if isinstance(mapping, Mapping) else mapping

    @model_validator(mode="after")
    def _check_spike(self) -> Self:
        if self.spike is not None and self.spike.step > self.steps:
            raise ConfigError("task.spike.step", self.spike.step, f"expected a step of the training's {self.steps:,}")
        return self

    def gradient_scale(self, step: int) -> float:
        """By what the loss of a step, 1-based, is multiplied before its backward pass."""
        return self.loss_scale * (self.spike.factor if self.spike is not None and step == self.spike.step else 1.0)
