"""What the interactive pictures are given: all of a small study, a stated part of a large one, and never markup."""

import base64
import gzip
import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from bench.analysis.findings import Findings, analyse
from bench.analysis.load import Loaded, load
from bench.report.explore import MAX_CURVES, MAX_POINTS, compress, curves, explore_data, library, searches
from bench.report.figures.style import make_palette
from tests.report import synthetic

HOSTILE = "</template><script>alert(1)</script>"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, Findings]:
    root = tmp_path_factory.mktemp("study")
    synthetic.write_zoo(root, ("adamw", HOSTILE), ("mlp",), trials=5, fresh=2)
    synthetic.write_run(root, sweep="search", lr=0.9)  # diverges, as one of the drawn does
    loaded = load([root])
    found = analyse(loaded)
    assert found is not None
    return loaded, found


def read(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_every_run_of_a_small_study_is_there_with_its_values(study: tuple[Loaded, Findings]) -> None:
    loaded, found = study
    data = read(explore_data(found, loaded.metrics, make_palette(found.used["optimizer"])))
    (item,) = data["curves"]
    assert {run["id"] for run in item["runs"]} == set(found.used["run_id"])
    assert {run["optimizer"] for run in item["runs"]} == {"adamw", HOSTILE} == set(data["styles"])
    assert sum(run["counts"] for run in item["runs"]) == len(found.final) == 4
    run = next(run for run in item["runs"] if run["counts"])
    row = found.used.index[found.used["run_id"] == run["id"]][0]
    curve = loaded.metrics[loaded.metrics["run"] == row]
    assert run["x"] == list(curve["step"])
    assert run["y"] == pytest.approx(list(curve["val_loss"]), rel=1e-3)
    assert f"{len(found.used)} of {len(found.used)} runs" in item["note"]


@pytest.mark.slow
def test_ten_thousand_runs_are_thinned_and_the_page_says_so(study: tuple[Loaded, Findings]) -> None:
    loaded, found = study
    copies = [found.used.set_axis(found.used.index + 1000 * i, axis="index") for i in range(1, 10_000 // 15 + 2)]
    used = pd.concat([found.used, *copies])
    curve = loaded.metrics[loaded.metrics["run"] == found.final.index[0]]
    long = pd.concat([curve] * 4, ignore_index=True).assign(step=lambda frame: frame.index)
    metrics = pd.concat([long.assign(run=run) for run in used.index], ignore_index=True)
    (item,) = curves(replace(found, used=used), metrics)
    assert len(used) >= 10_000
    assert len(item["runs"]) == MAX_CURVES
    assert sum(run["counts"] for run in item["runs"]) == len(found.final)  # what verdicts compare is never left out
    assert all(len(run["x"]) == MAX_POINTS and run["x"][-1] == long["step"].iloc[-1] for run in item["runs"])
    assert f"{MAX_CURVES} of {len(used)} runs" in item["note"]
    assert len(compress(json.dumps(item))) + len(library()) < 2_500_000


def test_a_search_names_its_axes_and_its_diverged_trials(study: tuple[Loaded, Findings]) -> None:
    items = {item["title"]: item for item in searches(study[1])}
    item = items["mlp · adamw"]
    assert [axis["label"] for axis in item["axes"]] == ["lr", "weight_decay", "final val loss"]
    lr = item["axes"][0]
    assert len(lr["values"]) == 4
    assert (lr["ticks"][0], lr["ticks"][-1]) == (min(lr["values"]), max(lr["values"]))
    assert "the 2 that diverged are not drawn" in item["note"]
    assert "Too few trials" in item["note"]


def test_what_lies_in_the_page_cannot_end_where_it_lies() -> None:
    assert set(compress(HOSTILE * 99)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
