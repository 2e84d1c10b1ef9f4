"""Any run folder is read, or listed with the reason, and what it says is never markup in a report."""

import contextlib
import hashlib
import io
import json
import shutil
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from bench.analysis.load import Loaded, load
from bench.jobs.job import run_job
from bench.jobs.plan import Plan, make_plan
from bench.jobs.summary import print_summary
from bench.report import write_report
from bench.runs.objective import objective_of
from bench.runs.store import Store
from tests.fuzzing.configurations import compose_mapping
from tests.fuzzing.hostile import damaged, mutated, usually
from tests.fuzzing.properties import Property, make_folder, require_one_line
from tests.report import synthetic

ROOT = make_folder("runs")
COLUMNS = ["train_loss", "step_seconds", "diag/<b>/x", "run", "ü"]
ACTIVE = {"img", "iframe", "object", "embed", "link", "form", "base", "image", "foreignobject"}


@cache
def originals() -> dict[Path, tuple[dict[str, Any], bytes]]:
    """The documents and metrics of a small study, by folder."""
    for optimizer in ("adamw", "madam"):
        for seed in range(2):
            synthetic.write_run(ROOT / "in", optimizer=optimizer, seed=seed, sweep="lr", num_rows=5)
    folders = [path.parent for path in sorted((ROOT / "in").rglob("run.json"))]
    return {
        folder: (json.loads((folder / "run.json").read_text()), (folder / "metrics.parquet").read_bytes())
        for folder in folders
    }


def documents() -> list[dict[str, Any]]:
    return [document for document, _ in originals().values()]


def _write(contents: list[tuple[bytes, bytes]]) -> Path:
    """A results folder in which the first runs have other contents, and the rest their own."""
    for position, (folder, (document, metrics)) in enumerate(originals().items()):
        run, table = contents[position] if position < len(contents) else (json.dumps(document).encode(), metrics)
        (folder / "run.json").write_bytes(run)
        (folder / "metrics.parquet").write_bytes(table)
    return ROOT / "in"


def _loaded(root: Path) -> Loaded:
    loaded = load([root])
    assert len(loaded.runs) + len(loaded.problems) == len(originals())
    for problem in loaded.problems["problem"]:
        require_one_line(problem)
    return loaded


def load_bytes(content: bytes) -> str:
    """The outcome of a `run.json` of any bytes."""
    (_, metrics) = next(iter(originals().values()))
    return "a problem" if len(_loaded(_write([(content, metrics)])).problems) else "a run"


def load_metrics(content: bytes) -> str:
    """The outcome of a `metrics.parquet` of any bytes whose checksum is right."""
    document, _ = next(iter(originals().values()))
    digest = hashlib.sha256(content).hexdigest()
    run = json.dumps({**document, "files": {"metrics.parquet": digest}}).encode()
    return "a problem" if len(_loaded(_write([(run, content)])).problems) else "a run"


def report_without_pictures(changed: list[tuple[dict[str, Any], bytes | None]]) -> str:
    with mock.patch("bench.report.write.DRAWINGS", ()):
        return report(changed)


def report(changed: list[tuple[dict[str, Any], bytes | None]]) -> str:
    """The outcome of a report on runs of which some have other documents, and some of these other metrics."""
    root, out = _write([_contents(document, table) for document, table in changed]), ROOT / "out"
    shutil.rmtree(out, ignore_errors=True)
    before = sorted(ROOT.iterdir())
    page = write_report([root], out).read_text(encoding="utf-8")
    assert sorted(ROOT.iterdir()) == sorted([*before, out])
    parser = Markup()
    parser.feed(page)
    assert parser.num_scripts == 1
    assert not parser.active, parser.active
    assert "<script" not in (out / "report.md").read_text(encoding="utf-8")
    for svg in out.rglob("*.svg"):
        assert "<script" not in (text := svg.read_text(encoding="utf-8"))
        assert "<img" not in text
    return f"{len(load([root]).problems)} problems"


def _contents(document: dict[str, Any], table: bytes | None) -> tuple[bytes, bytes]:
    """Both files of a run; the metrics are the table, else those whose checksum the document holds, else any."""
    known = {str(original["files"]): metrics for original, metrics in originals().values()}
    metrics = table or known.get(str(document.get("files")), next(iter(known.values())))
    files = {"metrics.parquet": hashlib.sha256(metrics).hexdigest()}
    return json.dumps({**document, "files": files} if table else document).encode(), metrics


class Markup(HTMLParser):
    """Counts scripts, and collects what else could act in a page or be fetched by it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_scripts = 0
        self.active: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.num_scripts += tag == "script"
        icon = tag == "link" and ("href", "data:,") in attrs
        self.active += [tag] if tag in ACTIVE and not icon else []
        self.active += [name for name, _ in attrs if name.startswith("on")]


@cache
def stored() -> tuple[Plan, Path, dict[str, Any]]:
    """A plan whose only trial is stored, its folder and its document."""
    mapping = compose_mapping(["task=rosenbrock", "task.steps=2", "+sweep.axes.seed=[3]"])
    mapping["results_dir"] = str(ROOT / "stored")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run_job(mapping)
    plan = make_plan(mapping)
    folder = plan.trials[0].folder(plan.session.results_dir)
    return plan, folder, json.loads((folder / "run.json").read_text())


def find_finished(document: object) -> str:
    """The outcome of a stored run whose `run.json` says something else."""
    plan, folder, _ = stored()
    (folder / "run.json").write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    run = Store(plan.session.results_dir).find_finished(plan.trials[0])
    if run is None:
        return "not finished"
    with contextlib.redirect_stdout(io.StringIO()):
        print_summary(plan, [run])
        print_summary(plan, [run, run])
    objective_of([run])
    return "finished"


def _column(numbers: st.SearchStrategy[Any], num_rows: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(numbers, min_size=num_rows, max_size=num_rows)


@st.composite
def tables(draw: Any) -> bytes:
    """Metrics with hostile numbers, column names and types."""
    num_rows = draw(st.integers(0, 4))
    names = draw(usually(st.just(["val_loss"]), st.just([]))) + draw(st.lists(st.sampled_from(COLUMNS), max_size=3))
    columns: dict[str, Any] = {name: draw(_column(st.floats(), num_rows)) for name in names}
    columns["step"] = np.array(draw(_column(st.integers(-2, 2**62), num_rows)), dtype=np.int64)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


run_bytes = st.deferred(lambda: damaged([json.dumps(documents()[0]).encode()]))
metrics_bytes = st.deferred(lambda: damaged([metrics for _, metrics in originals().values()]))
found_bytes = st.deferred(lambda: damaged([json.dumps(stored()[2]).encode()]))
changed = st.deferred(lambda: st.lists(st.tuples(mutated(documents()), st.none() | tables()), min_size=1, max_size=3))
PROPERTIES = {
    "runs: bytes of run.json": Property(st.binary(max_size=80) | run_bytes, load_bytes, 8),
    "runs: metrics": Property(st.binary(max_size=80) | tables() | metrics_bytes, load_metrics, 10),
    "runs: found again": Property(st.deferred(lambda: mutated([stored()[2]])) | found_bytes, find_finished, 10),
    "report: without pictures": Property(changed, report_without_pictures, 3),
    "report: with pictures": Property(changed, report, 0.4),
}
