"""The page: one self-contained HTML file, and the same in Markdown."""

import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from bench.report.explore import compress
from bench.report.figures.style import Picture
from bench.report.svg import inline_svg
from bench.report.table import Table, escape_markdown, to_markdown

SCRIPTS = ("page.js", "explore.js", "narrow.js")


def render_html(content: Mapping[str, Any], wide: dict[str, str], narrow: dict[str, str]) -> str:
    """The page from its content.

    Args:
        content: What the template names: lead, notes, blocks, tables, pictures, ...; all text is escaped here.
        wide: SVG source by picture's name, for a page with room for panels beside each other.
        narrow: The same for a phone, panels below each other; compressed, and unpacked where a page is narrow.
    """
    files = resources.files("bench.report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["code"] = _mark_code
    template = environment.from_string(files.joinpath("page.html.jinja").read_text(encoding="utf-8"))
    phone = {name: inline_svg(source, f"n{i}") for i, (name, source) in enumerate(narrow.items())}
    # Ours, not the user's: these are the only text that is not escaped.
    return template.render(
        **content,
        style=Markup(files.joinpath("page.css").read_text(encoding="utf-8")),
        script=Markup("".join(files.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)),
        wide={name: Markup(inline_svg(source, f"w{i}")) for i, (name, source) in enumerate(wide.items())},
        narrow=compress(json.dumps(phone)),
    )


def _mark_code(text: str) -> Markup:
    """Escaped, and what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def render_markdown(content: Mapping[str, Any]) -> str:
    """`report.md`: the same words and tables, pictures as links to `plots/`."""
    lines = [f"# {escape_markdown(content['title'])}", ""]
    for text in (*content["judged"], content["lead"]):
        lines += [escape_markdown(text), ""]
    if content["notes"]:
        lines += ["## Read this first", "", *[f"- {escape_markdown(note)}" for note in content["notes"]], ""]
    for table in content["judge_tables"]:
        lines += _markdown_table(table)
    for picture in content["verdict_pictures"]:
        lines += _markdown_picture(picture)
    for heading, sentences in content["blocks"].items():
        pairs = [(escape_markdown(headline), escape_markdown(details)) for headline, details in sentences]
        lines += [f"## {heading}", "", *[f"- **{headline}**: {details}" for headline, details in pairs], ""]
    for table in content["verdict_tables"]:
        lines += _markdown_table(table)
    for picture in content["pictures"]:
        lines += _markdown_picture(picture)
    for table in [*content["detail_tables"], *content["method_tables"]]:
        lines += _markdown_table(table)
    lines += ["## Rules", "", *[f"- {escape_markdown(rule)}" for rule in content["rules"]], ""]
    lines += [f"Every run: [tables/runs.csv](tables/runs.csv). {escape_markdown(content['facts'])}", ""]
    return "\n".join(lines)


def _markdown_picture(picture: Picture) -> list[str]:
    title = escape_markdown(picture.title)
    return [f"## {title}", "", f"![{title}](plots/{picture.name}.png)", "", escape_markdown(picture.caption), ""]


def _markdown_table(table: Table) -> list[str]:
    return [f"## {escape_markdown(table.title)}", "", to_markdown(table), "", escape_markdown(table.note), ""]
