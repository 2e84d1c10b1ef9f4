"""Pictures as SVG, and SVG fit to stand in the page: own ids, the page's colours and fonts."""

import io
import re
from xml.etree import ElementTree

from bench.report.figures.style import GRID, INK, MUTED, PAPER, Picture

THEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}
# Matplotlib's points are drawn a third larger, which is the size that their text was set for.
PIXELS_PER_POINT = 1.38
REFERENCE = re.compile(r"#([\w-]+)")


def save_svg(picture: Picture) -> str:
    """The picture as SVG source; text stays text."""
    sink = io.StringIO()
    picture.figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    return sink.getvalue()


def inline_svg(source: str, prefix: str) -> str:
    """Matplotlib's SVG for the page.

    Args:
        source: From `save_svg`.
        prefix: Goes before every id, since all pictures of a page share one room of names.
    """
    root = ElementTree.fromstring(source)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(name): _inline(_local(name), value, prefix) for name, value in element.items()}
    for metadata in root.findall("metadata"):
        root.remove(metadata)
    _shorten(root, prefix)
    width = float(root.attrib.pop("width").removesuffix("pt")) * PIXELS_PER_POINT
    del root.attrib["height"]
    root.attrib |= {"role": "img", "style": f"--width:{width:.0f}px"}
    return ElementTree.tostring(root, encoding="unicode")


def _shorten(root: ElementTree.Element, prefix: str) -> None:
    """A third of the bytes: a class for each look, no name that nothing refers to, no indentation."""
    classes: dict[str, str] = {}
    named = {name for element in root.iter() for value in element.attrib.values() for name in REFERENCE.findall(value)}
    for element in root.iter():
        if look := element.attrib.pop("style", ""):
            element.set("class", classes.setdefault(look, f"{prefix}c{len(classes)}"))
        if element.get("id") not in named:
            element.attrib.pop("id", None)
        element.tail = None
        if not (element.text or "").strip():
            element.text = None
    sheet = ElementTree.Element("style")
    sheet.text = "".join(f".{name}{{{look}}}" for look, name in classes.items())
    root.insert(0, sheet)


def _local(name: str) -> str:
    """A name without its namespace, which HTML knows from the `svg` element."""
    return name.rpartition("}")[2]


def _inline(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return value.replace("#", f"#{prefix}-", 1)
    if name in ("d", "x", "y", "transform"):
        return re.sub(r"\s+", " ", re.sub(r"(\.\d\d)\d+", r"\1", value)).strip()
    value = value.replace("url(#", f"url(#{prefix}-")
    if name in ("style", "fill", "stroke"):
        for color, variable in THEME.items():
            value = value.replace(color, variable)
        value = re.sub(r"font-family: [^;]*", "font-family: var(--plot)", value)
    return value
