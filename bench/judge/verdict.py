"""The files of a verdict: the latest one's, and those of every question."""

import json
from pathlib import Path

from bench.analysis.judged import Verdict
from bench.files import os_errors_as_store_error, replace_durably
from bench.runs.folders import KEPT, VERDICT_FILE


def write_verdict(verdict: Verdict, results_dir: Path, name: str) -> Path:
    """Write `verdict.json` as `keep` does, and return its path. Raises StoreError."""
    content = (json.dumps(verdict.model_dump(), indent=1, allow_nan=False) + "\n").encode()
    return keep(content, results_dir / VERDICT_FILE, name)


def keep(content: bytes, path: Path, name: str) -> Path:
    """Write a file on the latest question to `path`, and by the question's own name into `verdicts/` beside it.

    Each is written whole or not at all. Returns `path`. Raises StoreError.
    """
    kept = path.parent / KEPT / f"{name}{path.suffix}"
    with os_errors_as_store_error(path.parent):
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(kept, content)
        replace_durably(path, content)
    return path
