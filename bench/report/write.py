"""From run folders to a report on disk: page, pictures, tables, Markdown."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.comparability import prepare
from bench.analysis.findings import Findings, analyse
from bench.analysis.load import Loaded, load
from bench.analysis.targets import parse_target
from bench.report.figures.convergence import draw_convergence
from bench.report.figures.diagnostics import draw_diagnostics
from bench.report.figures.epsilon import draw_epsilon
from bench.report.figures.forest import draw_forest
from bench.report.figures.profiles import draw_profiles
from bench.report.figures.sensitivity import draw_sensitivity
from bench.report.figures.step_times import draw_step_times
from bench.report.figures.style import Palette, Picture, make_palette, style_context
from bench.report.figures.targets import draw_targets
from bench.report.figures.tuning import draw_tuning
from bench.report.method import RULES, method_tables, run_groups
from bench.report.page import render_html, render_markdown, save_svg
from bench.report.sentences import lead, sentences
from bench.report.table import save_csv
from bench.report.tables import (
    cell_table,
    pool_tables,
    sensitivity_tables,
    speed_table,
    verdict_table,
)

logger = logging.getLogger(__name__)

DRAWINGS: tuple[Callable[[Findings, Palette], list[Picture]], ...] = (
    draw_forest, draw_epsilon, draw_convergence, draw_targets, draw_sensitivity, draw_diagnostics, draw_tuning,
    draw_profiles, draw_step_times,
)  # fmt: skip
BADGES = {"better": "good", "worse": "bad", "not distinguishable": "dim", "too few seeds": "dim", "identical": "dim",
          "both diverged": "bad", "diverged": "bad", "failed": "bad", "timeout": "bad", "interrupted": "bad",
          "completed": "dim"}  # fmt: skip
MARKER = '<meta name="generator" content="bench.report">'
MAX_PROBLEMS = 200
MAX_OPEN_RUNS = 12


def write_report(paths: Sequence[Path], out: Path, *, baseline: str | None = None, targets: Sequence[str] = ()) -> Path:
    """Reads all run folders at or below `paths` and writes a report into `out`.

    Args:
        paths: Folders, any mixture.
        out: Gets index.html, report.md, plots/ and tables/; a former report there is replaced.
        baseline: Optimizer that all others are compared with; None chooses adamw, adam, sgd or the first by name.
        targets: `[TASK:]METRIC<=VALUE` (or >=) in place of the runs' own targets.

    Returns:
        Path of index.html.

    Raises:
        ValueError: a path, baseline or target that does not exist, or no run folder at all.
        OSError: `out` cannot be written.
    """
    overrides = [parse_target(text) for text in targets]
    loaded = load(paths)
    if loaded.runs.empty and loaded.problems.empty:
        raise ValueError(f"no run folder below {', '.join(str(path) for path in paths)}")
    found = analyse(loaded, baseline=baseline, target_overrides=overrides)
    _clear(out)
    for folder in (out / "plots", out / "tables"):
        folder.mkdir(parents=True, exist_ok=True)
    pictures, svgs = _draw(found, out / "plots") if found else ([], {})
    if found:
        write_csv(found, out / "tables")
    elif len(loaded.runs):
        save_csv(loaded.runs, out / "tables" / "runs.csv")
    if len(loaded.problems):
        save_csv(loaded.problems, out / "tables" / "problems.csv")
    content = _content(loaded, found, pictures)
    (out / "report.md").write_text(render_markdown(content), encoding="utf-8")
    page = out / "index.html"
    page.write_text(render_html(content, svgs), encoding="utf-8")
    logger.info("report on %d runs: %s", len(loaded.runs), page)
    return page


def _clear(out: Path) -> None:
    """Removes what an earlier report left, and only that: pictures that no longer exist would mislead."""
    page = out / "index.html"
    if page.is_file() and MARKER in page.read_text(encoding="utf-8", errors="replace")[:2000]:
        for pattern in ("plots/*.png", "plots/*.svg", "tables/*.csv"):
            for path in out.glob(pattern):
                path.unlink()


def _draw(found: Findings, folder: Path) -> tuple[list[Picture], dict[str, str]]:
    palette = make_palette(found.used["optimizer"])
    pictures: list[Picture] = []
    svgs: dict[str, str] = {}
    with style_context():
        for draw in DRAWINGS:
            for picture in draw(found, palette):
                picture.figure.savefig(folder / f"{picture.name}.png", dpi=160)
                svgs[picture.name] = save_svg(picture)
                (folder / f"{picture.name}.svg").write_text(svgs[picture.name], encoding="utf-8")
                pictures.append(picture)
    return pictures, svgs


def write_csv(found: Findings, folder: Path) -> None:
    """Every frame of the findings that has rows, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for field in fields(found):
        value = getattr(found, field.name)
        if isinstance(value, pd.DataFrame) and len(value) and field.name not in ("used", "final"):
            # A cell holds the same as the hyperparameters, and every run repeats its search space.
            save_csv(
                value.drop(columns=["hyperparameters", "search_space"], errors="ignore"), folder / f"{field.name}.csv"
            )
    for measure, frame in found.profile_times.items():
        save_csv(frame.reset_index(), folder / f"profile_times_{measure}.csv")


def _content(loaded: Loaded, found: Findings | None, pictures: list[Picture]) -> dict[str, Any]:
    """What the page and the Markdown show, as text."""
    runs = found.runs if found else prepare(loaded.runs)[0]
    groups, run_note = run_groups(runs) if len(runs) else ([], "")
    content: dict[str, Any] = {
        "title": _title(runs),
        "facts": _facts(runs),
        "lead": lead(found) if found else "None of these runs can be compared: none completed or diverged with a loss.",
        "notes": list(found.notes) if found else [],
        "problems": [tuple(row) for row in loaded.problems.head(MAX_PROBLEMS).to_numpy()],
        "problem_count": _count_problems(len(loaded.problems)),
        "blocks": sentences(found) if found else {},
        "verdict_tables": [verdict_table(found), speed_table(found), cell_table(found)] if found else [],
        "pictures": pictures,
        "detail_tables": [*sensitivity_tables(found), *pool_tables(found)] if found else [],
        "rules": RULES,
        "method_tables": method_tables(found) if found else [],
        "run_groups": groups,
        "run_note": run_note,
        "open_runs": len(runs) <= MAX_OPEN_RUNS,
        "badges": BADGES,
    }
    content["verdict_tables"] = [table for table in content["verdict_tables"] if table.rows]
    if len(loaded.problems):
        content["notes"].append(f"{content['problem_count']}: left out.")
    sections = {"verdict": "verdict_tables", "pictures": "pictures", "numbers": "detail_tables", "method": "rules",
                "runs": "run_groups"}  # fmt: skip
    content["links"] = [(anchor, anchor.capitalize()) for anchor, key in sections.items() if content[key]]
    return content


def _count_problems(count: int) -> str:
    text = "1 folder could not be read" if count == 1 else f"{count} folders could not be read"
    return (
        text if count <= MAX_PROBLEMS else f"{text} (the first {MAX_PROBLEMS} are listed, all in tables/problems.csv)"
    )


def _title(runs: pd.DataFrame) -> str:
    if runs.empty:
        return "No readable run"
    tasks, optimizers = sorted(runs["task"].unique()), sorted(runs["optimizer"].unique())
    names = ", ".join(optimizers) if len(optimizers) <= 3 else f"{len(optimizers)} optimizers"
    return f"{names} on {', '.join(tasks) if len(tasks) <= 3 else f'{len(tasks)} tasks'}"


def _facts(runs: pd.DataFrame) -> str:
    if runs.empty:
        return "0 runs"
    counts = ", ".join(f"{count} {status}" for status, count in runs["status"].value_counts().items())
    newest = max(runs["time"])[:10]
    return f"{len(runs)} run{'s' * (len(runs) != 1)} ({counts})" + (f", the newest of {newest}" if newest else "")
