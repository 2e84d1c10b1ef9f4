"""The page: one self-contained HTML file, and the same in Markdown."""

import io
import re
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from bench.report.figures.style import GRID, INK, MUTED, PAPER, Picture
from bench.report.table import escape_markdown, to_markdown

THEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}


def render_html(content: dict[str, Any], svgs: dict[str, str]) -> str:
    """The page from its content.

    Args:
        content: What the template names: lead, notes, blocks, tables, pictures, ...; all text is escaped here.
        svgs: SVG source by picture's name.
    """
    files = resources.files("bench.report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(files.joinpath("page.html.jinja").read_text(encoding="utf-8"))
    # Ours, not the user's: these three are the only text that is not escaped.
    return template.render(
        **content,
        style=Markup(files.joinpath("page.css").read_text(encoding="utf-8")),
        script=Markup(files.joinpath("page.js").read_text(encoding="utf-8")),
        svg={name: Markup(inline_svg(source, f"p{i}")) for i, (name, source) in enumerate(svgs.items())},
    )


def save_svg(picture: Picture) -> str:
    """The picture as SVG source; text stays text."""
    sink = io.StringIO()
    picture.figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    return sink.getvalue()


def inline_svg(source: str, prefix: str) -> str:
    """SVG fit to stand in a page: own ids, the page's colours and fonts, coordinates to a hundredth of a point."""
    source = source[source.index("<svg") :]
    source = re.sub(r"<metadata>.*?</metadata>", "", source, flags=re.DOTALL)
    source = re.sub(r"<!--.*?-->", "", source, flags=re.DOTALL)
    source = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}-", source)
    source = re.sub(r' d="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), source)
    # Only inside of tags: a name may well spell a colour.
    source = re.sub(r"<[a-z][^<>]*>", _apply_theme, source)
    source = re.sub(r'font-family: [^;"<>]*', "font-family: var(--plot)", source)
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', source)[1])  # type: ignore[index]
    # Matplotlib's points are drawn a third larger, which is the size that their text was set for.
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*"', rf'<svg \1style="--width:{width * 1.38:.0f}px"', source, count=1
    ).replace("<svg ", '<svg role="img" ', 1)


def _apply_theme(tag: re.Match[str]) -> str:
    text = tag[0]
    for color, variable in THEME.items():
        text = text.replace(color, variable)
    return text


def render_markdown(content: dict[str, Any]) -> str:
    """`report.md`: the same words and tables, pictures as links to `plots/`."""
    lines = [f"# {escape_markdown(content['title'])}", "", escape_markdown(content["lead"]), ""]
    if content["notes"]:
        lines += ["## Read this first", "", *[f"- {escape_markdown(note)}" for note in content["notes"]], ""]
    for table in content["verdict_tables"]:
        lines += _markdown_table(table)
    for heading, sentences in content["blocks"].items():
        pairs = [(escape_markdown(headline), escape_markdown(details)) for headline, details in sentences]
        lines += [f"## {heading}", "", *[f"- **{headline}**: {details}" for headline, details in pairs], ""]
    for picture in content["pictures"]:
        caption = escape_markdown(picture.caption)
        lines += [
            f"## {escape_markdown(picture.title)}",
            "",
            f"![{escape_markdown(picture.title)}](plots/{picture.name}.png)",
        ]
        lines += ["", caption, ""]
    for table in [*content["detail_tables"], *content["method_tables"]]:
        lines += _markdown_table(table)
    lines += ["## Rules", "", *[f"- {escape_markdown(rule)}" for rule in content["rules"]], ""]
    lines += [f"Every run: [tables/runs.csv](tables/runs.csv). {escape_markdown(content['facts'])}", ""]
    return "\n".join(lines)


def _markdown_table(table: Any) -> list[str]:
    return [f"## {escape_markdown(table.title)}", "", to_markdown(table), "", escape_markdown(table.note), ""]
