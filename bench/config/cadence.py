"""How often a checkpoint is due."""

import math
import re
from dataclasses import dataclass
from typing import Any

AUTO_SECONDS = 60.0
DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(s|min|h)")
UNIT_SECONDS = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Cadence:
    """Every so many steps, or every so many seconds; infinite means never."""

    steps: float = math.inf
    seconds: float = math.inf

    def is_due(self, step: int, seconds: float) -> bool:
        """Whether one is due after 1-based `step`, `seconds` after the last one."""
        return seconds >= self.seconds or (self.steps < math.inf and step % self.steps == 0)


def parse_cadence(value: Any) -> Cadence | None:
    """`auto` (every minute, hence never in a trial that is shorter), steps, a duration such as 30s, or None for none.

    Raises:
        ValueError: anything else.
    """
    if value is None:
        return None
    if value == "auto":
        return Cadence(seconds=AUTO_SECONDS)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return Cadence(steps=value)
    duration = DURATION.fullmatch(value) if isinstance(value, str) else None
    if duration is None or not float(duration[1]):
        raise ValueError("neither auto, nor null, nor a number of steps, nor a duration")
    return Cadence(seconds=float(duration[1]) * UNIT_SECONDS[duration[2]])
