"""The wheel, built once, and installed into a folder of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^```\w+ title="(.+?)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)

Bench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def blocks() -> dict[str, dict[str, str]]:
    """By document, its code blocks that have a title: the file that a block is, or a name."""
    documents = ("README.md", "CONTRIBUTING.md")
    return {name: dict(BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))) for name in documents}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = folder.glob("fairstep-*.whl")
    return path


@pytest.fixture(scope="session")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return folder


@pytest.fixture
def bench(site: Path, tmp_path: Path) -> Bench:
    """Run Python with arguments from an empty folder, with the installed wheel before everything else."""

    def run(*args: str, first: Path | None = None) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(str(folder) for folder in (first, site) if folder is not None)
        env = {**os.environ, "PYTHONPATH": path, "WANDB_MODE": "disabled"}
        return subprocess.run([sys.executable, *args], cwd=tmp_path, env=env, capture_output=True, text=True)

    return run
