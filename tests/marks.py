"""Which parameters of a test the quick tests take."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def quick_for(few: Collection[str], names: Iterable[str], *others: Any) -> list[Any]:
    """Parameters (name, *others) of a test, slow but for these few."""
    return [pytest.param(name, *others, marks=() if name in few else pytest.mark.slow) for name in names]
