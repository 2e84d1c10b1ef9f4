"""What tests look for in a report."""

import base64
import gzip
import json
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


def narrow_pictures(page: Path) -> dict[str, str]:
    """The SVG of every picture as a phone unpacks it, by name."""
    packed = re.findall(r'<template id="narrow-pictures">([^<]*)</template>', page.read_text(encoding="utf-8"))
    pictures: dict[str, str] = json.loads(gzip.decompress(base64.b64decode(packed[0])))
    return pictures
