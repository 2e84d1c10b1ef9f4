"""Iterating over frames whose columns the type checker cannot know."""

from collections.abc import Iterator
from typing import Any

import pandas as pd


def each(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples."""
    return iter(frame.itertuples())


def groups(frame: pd.DataFrame, keys: str | list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    """The groups in the order of their keys: (key or tuple of keys, its rows); a NaN among the keys is a key."""
    yield from frame.groupby(keys, sort=True, dropna=False)
