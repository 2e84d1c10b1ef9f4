"""Values that nobody means well with, and mappings in which they stand at random places."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

TEXTS = [
    "", " ", "..", "../../x", "/etc/passwd", "a/b", "~", "none", "null", "nan", "auto", "cuda:99", "cuda:²", "x" * 300,
    "<script>alert(1)</script>", "</svg><img src=x onerror=alert(1)>", "=HYPERLINK(1)", "$\\frac{$", "a|b`c`[x](y)",
    "line\nbreak", "\x1b[31mred", "nul\0", "\udcff", "\u202eright to left", "${seed}", "{{ 7 * 7 }}", "%s%n",
]  # fmt: skip
TARGETS = [
    "math.pi", "math.sqrt", "os.system", "os.kill", "builtins.dict", "builtins.eval", "torch.nn.Linear",
    "torch.optim.SGD", "torch.optim.Optimizer", "optimizers.adam.Adam", "optimizers.muon.Muon", "pathlib.Path",
    "collections.OrderedDict", "subprocess.Popen", "no.such.Thing", "a", "", ".", "tasks.quadratic.QuadraticTask",
    "tasks.rosenbrock.RosenbrockTask", "bench.schedules.linear", "bench.training.components.build_schedule",
]  # fmt: skip
NUMBERS = [
    0, -1, 1, 2, 3, 1.5, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 10**6, 10**9, 10**12,
    2**31, 2**63, 10**400, True, False,
]  # fmt: skip

texts = st.sampled_from(TEXTS) | st.sampled_from(TARGETS) | st.text(max_size=20)
numbers = st.sampled_from(NUMBERS) | st.integers(-5, 5) | st.floats()
scalars = st.none() | numbers | texts


def _nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


values = st.recursive(
    scalars | st.builds(_nested, st.sampled_from([5, 20, 200])) | st.just([0] * 5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def usually(sound: st.SearchStrategy[Any], hostile: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly sound, so that what stands beside it is reached."""
    return st.integers(0, 5).flatmap(lambda number: hostile if number == 3 else sound)


plausible = st.sampled_from([0, 1, 2, 3, 1e-3, 0.5, 1e-30, 1e30, -1, True, None, "adam", "none", "x", "<b>", [0.5], []])


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside of a nested document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, item in items for place in ((*path, key), *_places(item, (*path, key)))]


@st.composite
def mutated(draw: Callable[..., Any], documents: list[dict[str, Any]], max_changes: int = 3) -> dict[str, Any]:
    """One of the documents with some of its values replaced, removed or joined by others."""
    document = deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, max_changes))):
        places = _places(document)
        if not places:
            break
        *path, last = draw(st.sampled_from(places))
        node: Any = document
        for part in path:
            node = node[part]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"])):
            case "replace":
                node[last] = deepcopy(draw(usually(plausible, values)))
            case "remove":
                del node[last]
            case "add" if isinstance(node, dict):
                node[draw(texts | st.integers())] = deepcopy(draw(usually(plausible, values)))
    return document


@st.composite
def damaged(draw: Callable[..., Any], contents: list[bytes]) -> bytes:
    """One of the contents with bytes flipped, cut off, put in or repeated."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["flip", "flip", "cut", "insert", "repeat"])):
            case "flip" if content:
                content[place] ^= draw(st.integers(1, 255))
            case "cut":
                del content[place:]
            case "insert":
                content[place:place] = draw(st.binary(max_size=8))
            case "repeat":
                content[place:place] = content[place : place + 16]
    return bytes(content)
