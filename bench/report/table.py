"""Tables of the report: every frame as CSV, and the ones worth reading as text for the page and for Markdown."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.scores import BELOW_NOISE
from bench.report.figures.style import format_number

MISSING = "–"
# What is aligned and sorted as a number: 1, +0.3 to +0.4, 2.5 %, ≥ 3.2 decades, never.
FIGURE = r"[+−]?[\d.]+(e[-−+]?\d+)?"
NUMBER = re.compile(rf"(≥ )?{FIGURE}( to {FIGURE})?( %| ×| decades| units)?|not measured|never|{BELOW_NOISE}|{MISSING}")


@dataclass(frozen=True)
class Table:
    """Text, ready to be shown; `numeric` tells which columns are aligned and sorted as numbers."""

    title: str
    note: str
    headers: list[str]
    rows: list[list[str]]
    numeric: list[bool]


Format = Callable[[Any], str]


def plain(value: Any) -> str:
    """Numbers short, inf as never, NaN as a dash, text as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) or hasattr(value, "dtype"):
        number = float(value)
        if math.isnan(number):
            return MISSING
        return ("never" if number > 0 else "−never") if math.isinf(number) else format_number(number)
    return str(value) if value not in (None, "") else MISSING


def significant(value: Any) -> str:
    """Four significant digits, trailing zeros kept: 0.9000 under 0.8984."""
    return (
        plain(value)
        if not math.isfinite(value) or not 1e-4 <= abs(value) < 1e4
        else f"{value:#.4g}".rstrip(".").replace("-", "−")
    )


def signed(value: float, digits: int = 3) -> str:
    """+0.012 or −1.2e-5, with a true minus sign."""
    return f"{value:+.{digits}g}".replace("-", "−", int(value < 0)).replace("e-0", "e-")


def ratio_text(log_ratio: float) -> str:
    """The ratio with that logarithm: 3e-5, 14, 0.93, and more digits the nearer it is to 1; never 0.00."""
    if not math.isfinite(log_ratio):
        return "0" if log_ratio < 0 else "∞"
    ratio = math.exp(max(min(log_ratio, 700.0), -700.0))
    if abs(log_ratio) > 0.7:
        return format_number(float(f"{ratio:.2g}"))
    return f"{ratio:.{4 if abs(log_ratio) < 0.005 else 3 if abs(log_ratio) < 0.05 else 2}f}"


def percent_change(log_ratio: float) -> str:
    """−7 % for a ratio of 0.93; "" where a percentage says less than the ratio does."""
    change = 100 * math.expm1(log_ratio) if abs(log_ratio) < 0.7 else math.inf
    return f"{signed(change, 2)} %" if abs(change) < 99 else ""


def ratio(value: Any) -> str:
    """1.25 ×."""
    return MISSING if math.isnan(value) else f"{format_number(value)} ×"


def times(value: Any) -> str:
    """The same for times, which may not have been measured."""
    return "not measured" if math.isnan(value) else ratio(value)


def finite(value: Any) -> str:
    """As `plain`, a dash for inf: not "never", but nothing to tell."""
    return MISSING if value == math.inf else plain(value)


def milliseconds(value: Any) -> str:
    """Seconds in ms."""
    return "not measured" if math.isnan(value) else f"{1000 * value:.3g}"


def make_table(
    frame: pd.DataFrame, columns: Mapping[str, str], *, title: str, note: str = "", formats: Mapping[str, Format] = {}
) -> Table:
    """A table of some columns of a frame.

    Args:
        frame: One row per row.
        columns: Column -> header, in the order to be shown; columns that the frame lacks are passed over.
        title: Heading.
        note: Explanation under the table.
        formats: Column -> format, where it is not `plain`.
    """
    present = {name: header for name, header in columns.items() if name in frame}
    cells = [[formats.get(name, plain)(value) for value in frame[name]] for name in present]
    rows = [list(row) for row in zip(*cells, strict=True)]
    numeric = [all(NUMBER.fullmatch(cell) for cell in column) for column in cells]
    return Table(title, note, list(present.values()), rows, numeric)


def save_csv(frame: pd.DataFrame, path: Path) -> None:
    """One CSV file; a text that a spreadsheet would run as a formula is defused by an apostrophe."""
    frame = frame.reset_index() if frame.index.name else frame
    text = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    frame.assign(**{name: frame[name].map(_defuse) for name in text}).to_csv(path, index=False)


def _defuse(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        value = json.dumps(value, default=str)
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value


def to_markdown(table: Table) -> str:
    """A GitHub table; what is markup in Markdown or HTML stands escaped."""
    head = f"| {' | '.join(escape_markdown(h) for h in table.headers)} |"
    line = f"|{'|'.join('---:' if numeric else '---' for numeric in table.numeric)}|"
    body = [f"| {' | '.join(escape_markdown(cell) for cell in row)} |" for row in table.rows]
    return "\n".join([head, line, *body])


def escape_markdown(text: str) -> str:
    """Backslashes before what Markdown would take for markup, entities for what HTML would."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|#~" else c for c in text)


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "×": r"$\times$",
         "≥": r"$\geq$", "≤": r"$\leq$", "∞": r"$\infty$", "σ": r"$\sigma$", "ρ": r"$\rho$", "τ": r"$\tau$", "–": "--",
         "⁻": r"\textsuperscript{$-$}", "·": r"$\cdot$", "…": r"\ldots{}"}  # fmt: skip
LATEX |= {c: f"\\{c}" for c in "&%$#_{}"} | {s: rf"\textsuperscript{{{d}}}" for d, s in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}


def to_latex(table: Table) -> str:
    """A table for a paper, with booktabs; what is markup in LaTeX stands escaped."""

    def line(cells: list[str]) -> str:
        return f"{' & '.join(escape_latex(cell) for cell in cells)} \\\\"

    columns = "".join("r" if numeric else "l" for numeric in table.numeric)
    head = [f"% {escape_latex(table.title)}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(table.headers)]
    return "\n".join([*head, r"\midrule", *map(line, table.rows), r"\bottomrule", r"\end{tabular}", ""])


def escape_latex(text: str) -> str:
    """Every character that LaTeX takes for markup, and the symbols of our tables, as LaTeX writes them."""
    return "".join(LATEX.get(c, c) for c in text)
