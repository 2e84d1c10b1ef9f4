"""Pictures as SVG, and SVG fit to stand in the page: own ids, the page's colours and fonts."""

import io
import re
from xml.etree import ElementTree

from bench.analysis.sequential import BETTER, SAME, WORSE
from bench.report.figures.style import GRID, INK, MUTED, PAPER, Picture
from bench.report.figures.verdicts import COLORS

THEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)",
         COLORS[BETTER]: "var(--good)", COLORS[WORSE]: "var(--bad)", COLORS[SAME]: "var(--accent)"}  # fmt: skip
# Matplotlib's points are drawn a third larger, which is the size that their text was set for.
PIXELS_PER_POINT = 1.38
REFERENCE = re.compile(r"#([\w-]+)")
LONG = 200  # characters of a path that is no mark: a tenth of a point is enough for it, as for positions
LINES = re.compile(r"[MLz\d\s.-]+")  # a path that has no curves


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
        path = element.attrib.pop("d", None)
        element.attrib = {_local(name): _inline(_local(name), value, prefix) for name, value in element.items()}
        if path is not None:
            is_mark = "id" in element.attrib and len(path) < LONG
            straight = not is_mark and LINES.fullmatch(path)
            element.set("d", _stepwise(path) if straight else _rounded(path, 2 if is_mark else 1))
    for metadata in root.findall("metadata"):
        root.remove(metadata)
    _shorten(root, prefix)
    width = float(root.attrib.pop("width").removesuffix("pt")) * PIXELS_PER_POINT
    del root.attrib["height"]
    root.attrib |= {"role": "img", "style": f"--width:{width:.0f}px"}
    return ElementTree.tostring(root, encoding="unicode").replace(" />", "/>")


def _shorten(root: ElementTree.Element, prefix: str) -> None:
    """A class for each look, short names and only where something refers to them, no spaces, no empty groups."""
    classes: dict[str, str] = {}
    named = {name for element in root.iter() for value in element.attrib.values() for name in REFERENCE.findall(value)}
    short = {name: f"{prefix}i{number}" for number, name in enumerate(sorted(named))}
    for element in root.iter():
        for key, value in element.items():
            if key == "id" and value in short:
                element.set(key, short[value])
            elif "#" in value and key in ("href", "clip-path"):
                element.set(key, REFERENCE.sub(lambda name: f"#{short[name[1]]}", value))
        looks = [element.attrib.pop("style", None)]
        if clip := element.attrib.pop("clip-path", None):
            looks.append(f"clip-path:{clip}")
        if names := [classes.setdefault(look, f"{prefix}c{len(classes)}") for look in looks if look]:
            element.set("class", " ".join(names))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if element.get("id") not in short.values():
            element.attrib.pop("id", None)
        element.tail = None
        if not (element.text or "").strip():
            element.text = None
    _unwrap(root)
    sheet = ElementTree.Element("style")
    sheet.text = "".join(f".{name}{{{look}}}" for look, name in classes.items())
    root.insert(0, sheet)


def _unwrap(parent: ElementTree.Element) -> None:
    """Put what groups without any attribute hold in their place."""
    for child in list(parent):
        _unwrap(child)
        if child.tag == "g" and not child.attrib:
            at = list(parent).index(child)
            parent[at : at + 1] = list(child)


def _local(name: str) -> str:
    """A name without its namespace, which HTML knows from the `svg` element."""
    return name.rpartition("}")[2]


def _inline(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return value.replace("#", f"#{prefix}-", 1)
    if name in ("x", "y", "width", "height", "transform"):
        return _rounded(value, 1)
    value = value.replace("url(#", f"url(#{prefix}-")
    if name in ("style", "fill", "stroke"):
        for color, variable in THEME.items():
            value = value.replace(color, variable)
        value = re.sub(r"font-family: [^;]*", "font-family: var(--plot)", value)
    return value


def _rounded(text: str, digits: int) -> str:
    """Its numbers with so many decimals, and what is between them without line breaks."""
    rounded = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.{digits}f}".rstrip("0").rstrip("."), text)
    return re.sub(r"\s+", " ", rounded).strip()


def _stepwise(path: str) -> str:
    """A path of straight lines by the way from point to point, in tenths, which takes half of the characters."""
    pieces, x, y = [], 0, 0
    for command, *numbers in re.findall(r"([MLz])\s*(?:(-?[\d.]+)\s+(-?[\d.]+))?", path):
        if command == "z":
            pieces.append("z")
            continue
        to_x, to_y = (round(10 * float(number)) for number in numbers)
        if command == "M":
            pieces.append(f"M{to_x / 10:g} {to_y / 10:g}")
        elif to_x == x:
            pieces.append(f"v{(to_y - y) / 10:g}")
        elif to_y == y:
            pieces.append(f"h{(to_x - x) / 10:g}")
        else:
            pieces.append(f"l{(to_x - x) / 10:g} {(to_y - y) / 10:g}")
        x, y = to_x, to_y
    return "".join(pieces)
