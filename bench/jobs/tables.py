"""Tables for a terminal and for a file: a line per row and no cell broken, whatever the width."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text


@dataclass(frozen=True)
class Layout:
    """How densely a table is set: significant digits, spaces between columns, where a column's head may break."""

    digits: int
    gap: int
    head_breaks: str


LAYOUTS = (
    Layout(6, 2, r"(?<= )"),
    Layout(4, 2, r"(?<= )"),
    Layout(3, 2, r"(?<=[ _])"),
    Layout(3, 1, r"(?<=[ _])|(?=\.)"),
)


def print_table(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print rows under their keys, as densely as the terminal's width asks for; a file gets all digits.

    A terminal that is too narrow even for the densest layout wraps whole lines.
    """
    for layout in LAYOUTS:
        lines = set_table(rows, layout)
        if len(lines[0]) <= console.width or not console.is_terminal:
            break
    print_line("\n".join(line.rstrip() for line in lines), console)


def print_line(text: str, console: Console, style: str = "") -> None:
    """Print a sentence, which a terminal may wrap and a file keeps as one line."""
    console.print(Text(text, style=style), soft_wrap=True)


def set_table(rows: Sequence[Mapping[str, Any]], layout: Layout = LAYOUTS[0]) -> list[str]:
    """The lines of a table, all equally long: heads, a rule, a line per row."""
    columns = [_set_column(name, [row[name] for row in rows], layout) for name in rows[0]]
    num_heads = max(len(column) for column in columns) - len(rows) - 1
    padded = [[" " * len(column[0])] * (num_heads + 1 + len(rows) - len(column)) + column for column in columns]
    return [(" " * layout.gap).join(cells) for cells in zip(*padded, strict=True)]


def _set_column(name: str, values: Sequence[Any], layout: Layout) -> list[str]:
    """The lines of one column: its head on as many as it breaks into, a rule, its values. Text stands left."""
    heads = [part.strip() for part in re.split(layout.head_breaks, name)]
    cells = [format_value(value, layout.digits) for value in values]
    width = max(map(len, [*heads, *cells]))
    is_text = all(isinstance(value, str) for value in values)
    return [line.ljust(width) if is_text else line.rjust(width) for line in [*heads, "─" * width, *cells]]


def format_value(value: Any, digits: int = LAYOUTS[0].digits) -> str:
    """A cell's text: a dash for what was not measured, `never` for a target that was not met."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return "never" if value == math.inf else f"{value:.{digits}g}"
    return str(value)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """By dotted key the shortest of its endings that tells it from the others; a position in a list keeps its list."""
    return {key: next(ending for ending in _endings(key) if _is_unique(ending, key, keys)) for key in keys}


def _endings(key: str) -> list[str]:
    parts = key.split(".")
    is_inside = [any(part.isdigit() for part in parts[max(start - 1, 0) : start + 1]) for start in range(len(parts))]
    return [".".join(parts[start:]) for start in reversed(range(len(parts))) if not is_inside[start]]


def _is_unique(ending: str, key: str, keys: Sequence[str]) -> bool:
    return ending == key or not any(f".{other}".endswith(f".{ending}") for other in keys if other != key)
