"""From run folders to a report on disk: page, pictures, tables, Markdown."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.comparability import prepare
from bench.analysis.findings import Findings, analyse
from bench.analysis.judged import read_verdicts
from bench.analysis.load import Loaded, load
from bench.analysis.select import select
from bench.analysis.targets import parse_target
from bench.config.folders import find_conf_dir
from bench.errors import count_of
from bench.report.budgets import describe_short_budgets
from bench.report.detail_tables import pool_tables, sensitivity_tables
from bench.report.explore import explore_data, library
from bench.report.figures.convergence import draw_convergence
from bench.report.figures.costs import draw_costs
from bench.report.figures.diagnostics import draw_diagnostics
from bench.report.figures.epsilon import draw_epsilon
from bench.report.figures.profiles import draw_profiles
from bench.report.figures.ranks import draw_ranks
from bench.report.figures.sensitivity import draw_sensitivity
from bench.report.figures.style import Palette, Picture, make_palette, style_context
from bench.report.figures.targets import draw_targets
from bench.report.figures.tuning import draw_tuning
from bench.report.figures.verdicts import draw_verdicts
from bench.report.judged import ANOTHER_LOOK, judge_sentences, judge_tables, name_folders, only_tasks
from bench.report.lead_tables import lead_tables
from bench.report.method import RULES, method_tables, run_groups
from bench.report.page import render_html, render_markdown
from bench.report.sentences import lead, sentences
from bench.report.svg import save_svg
from bench.report.table import Table, save_csv, to_latex, to_markdown
from bench.report.tables import cell_table, speed_table, verdict_table

logger = logging.getLogger(__name__)

DRAWINGS: tuple[Callable[[Findings, Palette], list[Picture]], ...] = (
    draw_verdicts, draw_ranks, draw_epsilon, draw_convergence, draw_targets, draw_sensitivity, draw_diagnostics,
    draw_tuning, draw_profiles, draw_costs,
)  # fmt: skip
BADGES = {"better": "good", "worse": "bad", "practically the same": "same", "unresolved": "dim", "too few": "dim",
          "tasks disagree": "dim", "always failed": "bad", "diverged": "bad", "failed": "bad", "timeout": "bad",
          "interrupted": "bad", "completed": "dim", "reached": "dim"}  # fmt: skip
MARKER = '<meta name="generator" content="bench.report">'
MAX_PROBLEMS = 200
MAX_OPEN_RUNS = 12
PLOT_KINDS = ("png", "svg", "pdf")
TABLE_KINDS = ("csv", "md", "tex")
SECTIONS = {"verdict": "verdict_tables", "explore": "explore", "pictures": "pictures", "numbers": "detail_tables",
            "method": "rules", "runs": "run_groups"}  # fmt: skip


def write_report(
    paths: Sequence[Path] | Mapping[Path, str],
    out: Path,
    *,
    baseline: str | None = None,
    targets: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    tasks: Sequence[str] = (),
    where: Sequence[str] = (),
    tell: Callable[[str], None] = logger.info,
) -> Path:
    """Reads all run folders at or below `paths` and writes a report into `out`.

    Args:
        paths: Folders, any mixture; in a mapping, each with the label that tells its runs from those of others.
        out: Gets index.html, report.md, plots/ and tables/; a former report there is replaced.
        baseline: Optimizer that all others are compared with; None chooses adamw, adam, sgd or the first by name.
        targets: `[TASK:]METRIC<=VALUE` (or >=) in place of the runs' own targets.
        optimizers, tasks, where: Which runs to take, as `select.select` does.
        tell: Gets the report's first sentences: what the judge said where it did, how the comparisons ended, and what
            they speak of.

    Returns:
        Path of index.html.

    Raises:
        ValueError: a path, baseline, target, name or key that does not exist, or no run folder at all.
        OSError: `out` cannot be written.
    """
    overrides = [parse_target(text) for text in targets]
    loaded = load(paths)
    if loaded.runs.empty and loaded.problems.empty:
        raise ValueError(f"no run folder below {', '.join(str(path) for path in paths)}")
    loaded = select(loaded, optimizers=optimizers, tasks=tasks, where=where)
    found = analyse(loaded, baseline=baseline, target_overrides=overrides)
    _clear(out)
    for folder in (out / "plots", out / "tables"):
        folder.mkdir(parents=True, exist_ok=True)
    pictures, wide, narrow = _draw(found, out / "plots") if found else ([], {}, {})
    answers, choice = read_verdicts(paths)
    answers = name_folders(answers, paths)
    answers = only_tasks(answers, set(loaded.runs["task"])) if tasks else answers
    choice += _describe_choice(where)
    content = _content(loaded, found, pictures)
    content = {**content, "notes": [*choice, *content["notes"]], "judged": judge_sentences(answers),
               "lead": f"{ANOTHER_LOOK} {content['lead']}" if answers else content["lead"],
               "judge_tables": judge_tables(answers)}  # fmt: skip
    _write_tables([*content["judge_tables"], *content["verdict_tables"], *content["detail_tables"]], out / "tables")
    if found:
        write_csv(found, out / "tables")
    elif len(loaded.runs):
        save_csv(loaded.runs, out / "tables" / "runs.csv")
    if len(loaded.problems):
        save_csv(loaded.problems, out / "tables" / "problems.csv")
    (out / "report.md").write_text(render_markdown(content), encoding="utf-8")
    page = out / "index.html"
    page.write_text(render_html(content, wide, narrow), encoding="utf-8")
    tell("\n".join([*content["judged"], " ".join([content["lead"], *choice])]))
    return page


def _clear(out: Path) -> None:
    """Removes what an earlier report left, and only that: pictures that no longer exist would mislead."""
    page = out / "index.html"
    if page.is_file() and MARKER in page.read_text(encoding="utf-8", errors="replace")[:2000]:
        for pattern in (*(f"plots/*.{kind}" for kind in PLOT_KINDS), *(f"tables/*.{kind}" for kind in TABLE_KINDS)):
            for path in out.glob(pattern):
                path.unlink()


def _draw(found: Findings, folder: Path) -> tuple[list[Picture], dict[str, str], dict[str, str]]:
    """Every picture, saved for a paper and a slide; its SVG for a wide page, and for a narrow one."""
    names = found.used["optimizer"]
    pictures = list(_each_picture(found, make_palette(names)))
    wide, narrow = {}, {}
    with style_context():
        for picture in pictures:
            wide[picture.name] = save_svg(picture)
            picture.figure.set_layout_engine("none")  # it stands: laying it out again for every format takes longest
            (folder / f"{picture.name}.svg").write_text(wide[picture.name], encoding="utf-8")
            picture.figure.savefig(folder / f"{picture.name}.png", dpi=160)
            picture.figure.savefig(folder / f"{picture.name}.pdf", metadata={"CreationDate": None})
        for picture in _each_picture(found, make_palette(names, narrow=True)):
            narrow[picture.name] = save_svg(picture)
    return pictures, wide, narrow


def _each_picture(found: Findings, palette: Palette) -> Iterator[Picture]:
    with style_context():
        for draw in DRAWINGS:
            yield from draw(found, palette)


def write_csv(found: Findings, folder: Path) -> None:
    """Every frame of the findings that has rows, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for field in fields(found):
        value = getattr(found, field.name)
        if isinstance(value, pd.DataFrame) and len(value) and field.name not in ("used", "final"):
            save_csv(_with_hyperparameters(value), folder / f"{field.name}.csv")
    for measure, frame in found.profile_times.items():
        save_csv(frame.reset_index(), folder / f"profile_times_{measure}.csv")


def _with_hyperparameters(frame: pd.DataFrame) -> pd.DataFrame:
    """A column for each hyperparameter, in place of what repeats them all in one."""
    if "hyperparameters" not in frame:
        return frame
    columns = pd.DataFrame(list(frame["hyperparameters"]), index=frame.index)
    return frame.drop(columns=["hyperparameters", "search_space", "options"]).join(columns)


def _write_tables(tables: list[Table], folder: Path) -> None:
    """The tables of the page, for a paper and for a README."""
    for table in tables:
        name = "".join(c if c.isascii() and c.isalnum() else "_" for c in table.title.lower())
        (folder / f"{name}.md").write_text(f"{to_markdown(table)}\n", encoding="utf-8")
        (folder / f"{name}.tex").write_text(to_latex(table), encoding="utf-8")


def _content(loaded: Loaded, found: Findings | None, pictures: list[Picture]) -> Mapping[str, Any]:
    """What the page and the Markdown show, as text."""
    runs = found.runs if found else prepare(loaded.runs)[0]
    groups, run_note = run_groups(runs) if len(runs) else ([], "")
    content: dict[str, Any] = {
        "title": _title(runs),
        "facts": _facts(runs),
        "lead": lead(found) if found else "None of these runs can be compared: none completed or diverged with a loss.",
        "notes": _notes(loaded, found),
        "problems": [tuple(row) for row in loaded.problems.head(MAX_PROBLEMS).to_numpy()],
        "problem_count": _count_problems(len(loaded.problems)),
        "blocks": sentences(found) if found else {},
        "verdict_pictures": [picture for picture in pictures if picture.name == "verdicts"],
        "pictures": [picture for picture in pictures if picture.name != "verdicts"],
        **_tables(found),
        "explore": explore_data(found, loaded.metrics, make_palette(found.used["optimizer"])) if found else "",
        "library": library() if found else "",
        "rules": RULES,
        "run_groups": groups,
        "run_note": run_note,
        "open_runs": len(runs) <= MAX_OPEN_RUNS,
        "badges": BADGES,
    }
    content["links"] = [(anchor, anchor.capitalize()) for anchor, key in SECTIONS.items() if content[key]]
    return content


def _tables(found: Findings | None) -> dict[str, list[Table]]:
    if found is None:
        return {"verdict_tables": [], "detail_tables": [], "method_tables": []}
    verdicts = [verdict_table(found), speed_table(found), *lead_tables(found), cell_table(found)]
    return {
        "verdict_tables": [table for table in verdicts if table.rows],
        "detail_tables": [*pool_tables(found), *sensitivity_tables(found)],
        "method_tables": method_tables(found),
    }


def _notes(loaded: Loaded, found: Findings | None) -> list[str]:
    notes = [*found.notes, *describe_short_budgets(found.used, find_conf_dir())] if found else []
    return notes + ([f"{_count_problems(len(loaded.problems))}: left out."] if len(loaded.problems) else [])


def _describe_choice(where: Sequence[str]) -> list[str]:
    """What takes some of their meaning from the words of a report, whatever the runs are."""
    text = "trials were left out after the fact, so that no word of this report speaks of whole searches."
    return [f"Only runs with {' and '.join(where)}: {text}"] if where else []


def _count_problems(count: int) -> str:
    text = f"{count_of(count, 'folder')} could not be read"
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
    return f"{count_of(len(runs), 'run')} ({counts})" + (f", the newest of {newest}" if newest else "")
