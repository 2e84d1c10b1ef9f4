"""Learning-rate schedules: pure functions of the step that return the factor on every lr.

All take the 1-based `step`, the budget `num_steps`, and `warmup_fraction`: the share of the budget over which the
factor first rises linearly from 0 to 1. Bring your own by its import path in `schedule._target_`: `step` and
`num_steps` are given by name, so that a function that is no schedule is never called.
"""

import math
from collections.abc import Callable

from bench.config import ScheduleConfig
from bench.errors import ConfigError
from bench.importing import bind_options, locate, signature_text


def constant(step: int, num_steps: int, *, warmup_fraction: float) -> float:
    """1 after the warm-up."""
    return _warmup(step, num_steps, warmup_fraction)


def linear(step: int, num_steps: int, *, warmup_fraction: float, final_factor: float) -> float:
    """From 1 at the end of the warm-up down to `final_factor` at the last step, in a straight line."""
    decay = _decay_progress(step, num_steps, warmup_fraction)
    return _warmup(step, num_steps, warmup_fraction) * (1 - (1 - final_factor) * decay)


def cosine(step: int, num_steps: int, *, warmup_fraction: float, final_factor: float) -> float:
    """From 1 down to `final_factor` along half a cosine. Loshchilov and Hutter 2017, arXiv 1608.03983."""
    decay = _decay_progress(step, num_steps, warmup_fraction)
    factor = final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * decay))
    return _warmup(step, num_steps, warmup_fraction) * factor


def wsd(step: int, num_steps: int, *, warmup_fraction: float, decay_fraction: float, final_factor: float) -> float:
    """Warm-up, stable, decay: 1 until the last `decay_fraction` of the budget. Hu et al. 2024, arXiv 2404.06395."""
    decay = _decay_progress(step, num_steps, max(warmup_fraction, 1 - decay_fraction))
    return _warmup(step, num_steps, warmup_fraction) * (1 - (1 - final_factor) * decay)


def _warmup(step: int, num_steps: int, warmup_fraction: float) -> float:
    warmup_steps = warmup_fraction * num_steps
    return min(1.0, step / warmup_steps) if warmup_steps > 0 else 1.0


def _decay_progress(step: int, num_steps: int, start_fraction: float) -> float:
    start = start_fraction * num_steps
    return max(0.0, step - start) / (num_steps - start) if num_steps > start else 0.0


def build_schedule(config: ScheduleConfig, num_steps: int) -> Callable[[int], float]:
    """The factor on every lr as a function of the 1-based step.

    Raises:
        ConfigError: a target that cannot be imported or gives no number, an option it does not have, a fraction outside
            [0, 1].
    """
    function = locate(config.target, "schedule._target_")
    bind_options(function, {**config.options, "step": 1, "num_steps": num_steps}, "schedule", num_positional=0)
    for name, value in config.options.items():
        is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        if name.endswith(("_fraction", "_factor")) and not is_share:
            raise ConfigError(f"schedule.{name}", value, "expected a number from 0 to 1")

    def factor(step: int) -> float:
        return float(function(step=step, num_steps=num_steps, **config.options))

    try:
        first = factor(1)
    except Exception as error:  # foreign code: whatever it raises is told in one line
        text = f"fails at step 1: {type(error).__name__}: {error}; signature: {signature_text(function)}"
        raise ConfigError("schedule._target_", config.target, text) from error
    if not math.isfinite(first):
        raise ConfigError("schedule._target_", config.target, f"gives {first} at step 1; expected a finite number")
    return factor
