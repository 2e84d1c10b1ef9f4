"""Held-out workloads: `task.variant=N` draws a task's options from the values that its yaml lists under `variants`.

An optimizer tuned on the task itself is trained on variants without new tuning: how well do its hyperparameters
transfer? (AlgoPerf v0.5 held out workloads to the same end: Dahl et al. 2023, arXiv 2306.07179, section 4.3.)
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from bench.errors import ConfigError


def draw_variant(task: Mapping[str, Any]) -> dict[str, object]:
    """The task's section with the options of its variant in place; variant 0, or none, is the task itself.

    The same number always draws the same values, on any machine.

    Raises:
        ConfigError: a variant of a task that lists none, values for an option that it does not have.
    """
    drawn, number, variants = dict(task), task.get("variant", 0), task.get("variants") or {}
    if not isinstance(number, int) or isinstance(number, bool) or number < 1 or not isinstance(variants, Mapping):
        return drawn  # nothing to draw, or for the fields themselves to refuse
    if not variants:
        raise ConfigError("task.variant", number, "this task lists no variants")
    for option, values in variants.items():
        if option not in task or not isinstance(values, list) or not values:
            raise ConfigError(f"task.variants.{option}", values, "expected a list of values for an option of the task")
        digest = hashlib.sha256(f"{task.get('name')}/{option}/{number}".encode()).digest()
        drawn[option] = values[int.from_bytes(digest[:8], "little") % len(values)]
    return drawn
