"""Learning-rate schedules: pure functions of the step that return the factor on every lr.

All take the 1-based `step`, the budget `num_steps`, and `warmup_fraction`: the share of the budget over which the
factor first rises linearly from 0 to 1. Bring your own by its import path in `schedule._target_`: `step` and
`num_steps` are given by name, so that a function that is no schedule is never called.
"""

import math


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
