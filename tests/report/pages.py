"""What tests look for in a report."""

import re
from pathlib import Path

from bench.analysis.findings import Findings, analyse
from bench.analysis.load import load


def findings(root: Path) -> Findings:
    found = analyse(load([root]))
    assert found is not None
    return found


def text_of(page: Path) -> str:
    return re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
