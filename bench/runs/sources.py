"""Source code by what it computes: one digest for files that differ in comments, layout, messages, type hints only."""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions, version
from importlib.util import find_spec, resolve_name
from pathlib import Path

OURS = ("bench", "optimizers", "tasks")  # identified by their sources, installed or not
LOGGERS = ("log", "logger", "logging", "warnings")
MESSAGE = "message"  # a variable or attribute of this name holds a text for people
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def find_sources(module: str) -> list[str]:
    """What identifies a module: digests of its file and of all that it imports of its own package, directly or not.

    An installed package of somebody else is identified by its version.
    """
    package = module.partition(".")[0]
    if package not in OURS and (installed := _installed_version(package)):
        return [installed]
    found: dict[str, str] = {}
    left = [module]
    while left:
        name = left.pop()
        file = _file_of(name)
        if file is None or name in found:
            continue
        found[name] = digest_file(file)
        if name.partition(".")[0] != "bench" and file.suffix == ".py":
            left += [other for other in _imports(file, name) if other.partition(".")[0] == package]
    return [found[name] for name in sorted(found)]


@cache
def digest_file(file: Path) -> str:
    """SHA-256 of what a source file computes, or of the bytes of any other file."""
    content = file.read_bytes()
    if file.suffix == ".py":
        content = repr(_plain(_without_words(ast.parse(content)))).encode()
    return hashlib.sha256(content).hexdigest()


def _without_words(tree: ast.Module) -> ast.Module:
    """The tree without docstrings, type hints of functions, and texts that are raised, logged, or made a `message`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
        if _tells_people(node):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    inner.value = ""
                if isinstance(inner, ast.JoinedStr):
                    inner.values = []
    return tree


def _tells_people(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(MESSAGE in (getattr(target, "attr", ""), getattr(target, "id", "")) for target in targets)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return getattr(node.func.value, "id", "") in LOGGERS
    return isinstance(node, ast.Raise)


def _plain(node: object) -> object:
    """The tree as tuples, without what is empty: Python's versions differ in how they note that."""
    if isinstance(node, ast.AST):
        fields = [(name, _plain(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
        return type(node).__name__, fields
    return [_plain(item) for item in node] if isinstance(node, list) else (type(node).__name__, node)


def _imports(file: Path, module: str) -> Iterator[str]:
    """What the file of a module imports, wherever in it; of `from a import b` both `a` and `a.b`, which may be one."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package) if node.level else str(node.module)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _file_of(module: str) -> Path | None:
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and Path(spec.origin).is_file() else None


@cache
def _installed_version(package: str) -> str | None:
    """Name and version of the distribution in this Python that holds the package, without its build (`+cpu`)."""
    file = _file_of(package)
    if file is None or not file.is_relative_to(sysconfig.get_path("purelib")):
        return None
    try:
        names = [metadata(package)["Name"]]
    except PackageNotFoundError:  # another name than its package's: found by looking through all of them
        names = sorted(packages_distributions().get(package, []))
    return " ".join(f"{name} {version(name).partition('+')[0]}" for name in names) or None
