"""The report as a user gets it: studies whose answer is known, hostile text, and folders with nothing to say."""

import csv
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import bench
from bench.analysis.findings import Findings, analyse
from bench.analysis.load import load
from bench.report import write_report
from bench.report.__main__ import main
from bench.report.figures.epsilon import draw_epsilon, lr_eps_grid
from bench.report.figures.style import make_palette
from tests.report import synthetic


def findings(root: Path) -> Findings:
    found = analyse(load([root]))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def epsilon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("epsilon")
    synthetic.write_epsilon_study(root / "results", tasks=("mlp",))
    write_report([root / "results"], root / "report")
    return root


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("zoo")
    synthetic.write_zoo(root / "results", optimizers=("adamw", "adamuon", "madam"), trials=8, fresh=4)
    write_report([root / "results"], root / "report")
    return root


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tasks, four searches each; sgd fails on every search of one task."""
    root = tmp_path_factory.mktemp("replicated")
    tasks = ("mlp", "gpt_nano", "cifar", "four", "five")
    synthetic.write_zoo(root / "results", ("adamw", "muon", "lion"), tasks, trials=2, fresh=2, searches=4)
    for search in range(4):
        synthetic.write_run(root / "results", optimizer="sgd", seed=100 + 1000 * search, replicate=search,
                            stage="fresh", sweep="fresh_seeds", status="diverged")  # fmt: skip
    write_report([root / "results"], root / "report")
    return root


def text_of(page: Path) -> str:
    return re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_epsilon_study_shows_the_cliff_the_flat_width_and_the_scales(epsilon: Path) -> None:
    names = {path.stem for path in (epsilon / "report" / "plots").iterdir()}
    assert {
        "epsilon",
        "lr_eps_heatmaps",
        "flat_widths",
        "diag_share_below_eps",
        "diag_update_rms",
        "sensitivity_lr",
    } <= names
    found = findings(epsilon / "results")
    widths = found.flat_widths[found.flat_widths["key"] == "optimizer.eps"].set_index("setting")["width"]
    assert widths["mlp"] > widths["mlp · loss × 2⁻¹⁰"] > widths["mlp · loss × 2⁻²⁰"]
    scales = found.scales.set_index(["optimizer", "loss_scale"])
    assert (scales.loc["madam", "num_identical"] == scales.loc["madam", "num_pairs"]).all()
    assert (scales.loc["adam", "num_identical"] == 0).all()
    assert "madam repeats every loss bit for bit; adam does not." in text_of(epsilon / "report" / "index.html")


def test_a_grid_that_grew_at_some_eps_is_a_map_and_a_random_search_is_none() -> None:
    def cells(pairs: list[tuple[float, float]]) -> pd.DataFrame:
        values = [{"optimizer.lr": lr, "optimizer.eps": eps} for lr, eps in pairs]
        return pd.DataFrame({"values": values, "loss": range(len(values))})

    small = [(lr, eps) for eps in (1e-8, 1e-6, 1e-4) for lr in (1e-3, 1e-2)]
    grown = lr_eps_grid(cells([*small, *((10.0**power, 1e-4) for power in range(-1, 6))]))
    assert grown is not None
    assert grown.notna().sum().tolist() == [2, 2, 9]
    assert lr_eps_grid(cells([(1e-3, 1e-8), (2e-3, 3e-7), (5e-3, 1e-5)])) is None


def test_zoo_compares_on_fresh_seeds_only(zoo: Path) -> None:
    found = findings(zoo / "results")
    assert set(found.final["sweep"]) == {"fresh_seeds"}
    assert found.verdicts["fresh"].all()
    assert (found.verdicts["num_units"] == 4).all()
    assert set(found.verdicts["unit"]) == {"seed"}
    assert "none of which took part in tuning" in text_of(zoo / "report" / "index.html")
    pictures = {path.stem for path in (zoo / "report" / "plots").iterdir()}
    assert {"tuning_budget", "profile", "ranks", "rank_stability", "verdicts"} <= pictures
    assert "step_times" not in pictures


def test_several_searches_make_claims_about_optimizers_over_all_tasks_and_about_failures(replicated: Path) -> None:
    found = findings(replicated / "results")
    single = found.verdicts[found.verdicts["setting"] != "all tasks"].set_index(["setting", "optimizer"])
    assert set(single["unit"]) == {"search"}
    assert single.drop(index=("mlp", "sgd"))["num_units"].isin([3, 4]).all()  # one search of adamw fails
    assert single.loc[("mlp", "sgd"), ["failed", "failed_of"]].tolist() == [4, 4]
    assert set(found.verdicts.query("setting == 'all tasks'")["optimizer"]) == {"lion", "muon"}
    assert "all tasks" in set(found.ranks["setting"])
    page = text_of(replicated / "report" / "index.html")
    assert "They speak of optimizers, each tuned by several independent searches." in page
    assert "4 of 4 searches" in page
    assert "seconds: not measured" in page


def test_the_page_says_first_what_was_found_and_reads_test_losses(replicated: Path) -> None:
    page = text_of(replicated / "report" / "index.html")
    assert page.index('id="verdicts"') < page.index("Comparisons with the baseline") < page.index('id="pictures"')
    assert "Ratio of final test losses" in page
    assert not re.search(r"0\.00 ×|e\+\d+ %", page)


def test_tables_come_as_markdown_and_latex_too(zoo: Path) -> None:
    tables = zoo / "report" / "tables"
    latex = (tables / "comparisons_with_the_baseline.tex").read_text(encoding="utf-8")
    assert r"\begin{tabular}{" in latex
    assert r"gpt\_nano & adamuon & adamw & " in latex
    assert (tables / "comparisons_with_the_baseline.md").read_text(encoding="utf-8").startswith("| task |")


def test_zero_on_a_log_axis_is_labelled_zero(tmp_path: Path) -> None:
    for seed in range(2):
        for decay in (0.0, 0.01, 0.1, 1.0):
            synthetic.write_run(tmp_path / "in", seed=seed, sweep="grid", optimizer_config={"weight_decay": decay})
    write_report([tmp_path / "in"], tmp_path / "out")
    picture = (tmp_path / "out" / "plots" / "sensitivity_weight_decay.svg").read_text(encoding="utf-8")
    ticks = re.findall(r">([^<>\s]+)</text>", picture)
    assert ticks[:4] == ["0", "0.01", "0.1", "1"]


def test_no_eps_picture_is_drawn_from_a_random_search(tmp_path: Path) -> None:
    for trial in range(8):
        synthetic.write_run(tmp_path, lr=10 ** -(1 + trial / 3), eps=10.0 ** -(2 + trial), sweep="search")
    found = findings(tmp_path)
    assert draw_epsilon(found, make_palette(["adamw"])) == []
    assert found.flat_widths.empty


def test_fresh_seeds_that_were_tuned_on_are_left_out(tmp_path: Path) -> None:
    synthetic.write_zoo(tmp_path, optimizers=("adamw", "madam"), trials=4, fresh=3)
    best = findings(tmp_path).final.query("task == 'mlp' and optimizer == 'adamw'").iloc[0]["hyperparameters"]
    synthetic.write_run(tmp_path, seed=0, sweep="fresh_seeds", lr=best["optimizer.lr"],
                        optimizer_config={"weight_decay": best["optimizer.weight_decay"]})  # fmt: skip
    found = findings(tmp_path)
    assert 0 not in set(found.final["seed"])
    assert any("had been tuned on" in note for note in found.notes)


def test_every_picture_is_written_for_page_and_paper_and_stands_in_page_and_markdown(zoo: Path) -> None:
    report = zoo / "report"
    pictures = {path.stem for path in (report / "plots").glob("*.png")}
    for kind in ("svg", "pdf"):
        assert pictures == {path.stem for path in (report / "plots").glob(f"*.{kind}")}
    page, markdown = text_of(report / "index.html"), (report / "report.md").read_text(encoding="utf-8")
    assert page.count("<svg ") == 2 * len(pictures)  # for a wide page and for a phone
    for name in pictures:
        assert f'<figure id="{name}">' in page
        assert f"(plots/{name}.png)" in markdown
    assert len(re.findall(r"<figcaption>[^<]*n = \d", page)) >= len(pictures) - 2


class Requests(HTMLParser):
    """Collects whatever a browser would fetch."""

    found: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.found = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href") and value:
                self.found.append(value)


def test_page_requests_nothing(epsilon: Path) -> None:
    page = (epsilon / "report" / "index.html").read_text(encoding="utf-8")
    parser = Requests()
    parser.feed(page)
    assert all(value.startswith(("#", "data:")) for value in parser.found)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_every_run_is_listed_with_its_status(zoo: Path) -> None:
    page = text_of(zoo / "report" / "index.html")
    runs = pd.read_csv(zoo / "report" / "tables" / "runs.csv")
    assert all(run_id in page for run_id in runs["run_id"].astype(str))
    assert "diverged" in set(runs["status"])


HOSTILE = "<script>alert(1)</script>"


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    names = (
        HOSTILE,
        "../../../etc/passwd",
        "$\\frac{$ & </svg><img src=x onerror=alert(1)>",
        "=HYPERLINK(1)",
        "a|b`c`[x](http://e.vil)",
    )
    for seed in range(3):
        for name in names:
            synthetic.write_run(tmp_path / "in", task=names[2], optimizer=name, seed=seed, sweep=HOSTILE,
                                task_config={HOSTILE: HOSTILE},
                                optimizer_config={HOSTILE: 1, "eps_convention": HOSTILE})  # fmt: skip
    report = tmp_path / "deep" / "out"
    write_report([tmp_path / "in"], report)
    page = (report / "index.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page
    for svg in (report / "plots").glob("*.svg"):
        assert "<script" not in svg.read_text(encoding="utf-8")
        assert "<img" not in svg.read_text(encoding="utf-8")
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "[x](" not in markdown
    with (report / "tables" / "verdicts.csv").open(encoding="utf-8") as file:
        assert not any(cell.startswith("=") for row in csv.reader(file) for cell in row)
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"out"}
    assert {path.name for path in report.iterdir()} == {"index.html", "report.md", "plots", "tables"}


def test_only_diverged_runs_make_a_clear_page(tmp_path: Path) -> None:
    for optimizer in ("adamw", "madam"):
        for seed in range(3):
            synthetic.write_run(tmp_path / "in", optimizer=optimizer, seed=seed, status="diverged")
    page = text_of(write_report([tmp_path / "in"], tmp_path / "out"))
    assert "1 always failed" in page
    assert "6 runs (6 diverged)" in page


def test_one_single_run_makes_a_page(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path / "in")
    assert "there is nothing to compare it with" in text_of(write_report([tmp_path / "in"], tmp_path / "out"))


@pytest.mark.parametrize("status", ["failed", "interrupted", "timeout"])
def test_runs_that_nobody_can_compare_are_still_listed(tmp_path: Path, status: str) -> None:
    synthetic.write_run(tmp_path / "in", status=status)
    page = text_of(write_report([tmp_path / "in"], tmp_path / "out"))
    assert "None of these runs can be compared" in page
    assert f"1 {status}" in page


def test_two_schema_versions_and_a_half_written_run_are_named(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path / "in")
    synthetic.write_run(tmp_path / "in", seed=1, record={"schema_version": 99})
    (tmp_path / "in" / "mlp" / "any" / ("a" * 16)).mkdir()
    page = text_of(write_report([tmp_path / "in"], tmp_path / "out"))
    assert "2 folders could not be read" in page
    assert "schema_version=99: expected at most 2" in page
    assert "run.json is missing" in page


def test_a_new_report_removes_pictures_of_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path / "in")
    out = tmp_path / "out"
    write_report([tmp_path / "in"], out)
    (out / "plots" / "old.png").touch()
    (out / "mine.txt").touch()
    write_report([tmp_path / "in"], out)
    assert not (out / "plots" / "old.png").exists()
    assert (out / "mine.txt").exists()
    (out / "index.html").write_text("a page of somebody else")
    (out / "plots" / "old.png").touch()
    write_report([tmp_path / "in"], out)
    assert (out / "plots" / "old.png").exists()


def test_the_same_runs_give_the_same_report(tmp_path: Path) -> None:
    for seed in range(3):
        for optimizer in ("adamw", "lion"):
            synthetic.write_run(tmp_path / "in", optimizer=optimizer, seed=seed)
    pages = [write_report([tmp_path / "in"], tmp_path / name).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["nowhere"], "nowhere is not a folder"), (["."], "no run folder below"),
     (["in", "--baseline", "sgd"], "no baseline 'sgd'"), (["in", "--target", "loss"], "not of the form"),
     (["in", "--target", "cifar:val_loss<=1"], "no task 'cifar'"),
     (["in", "--target", "val_los<=1"], "no metric 'val_los'"),
     (["in", "--optimizer", "sgd"], "no optimizer 'sgd' in these runs (there are: adamw)"),
     (["in", "--where", "lr"], "not of the form KEY<=VALUE"), (["in", "--where", "optimizer.beta=1"], "no run has"),
     (["in", "--where", "optimizer.lr>1"], "no run is left of 1"),
     (["in", "--out", "file"], "file")],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    if arguments[0] == "in":
        synthetic.write_run(tmp_path / "in")
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("paths", "place"), [(["in"], "in/report"), (["in", "more"], "report")])
def test_the_report_on_one_folder_lies_in_it_as_with_report_true(
    paths: list[str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("bench.report.write.write_report", lambda paths, out, **options: asked.append(out))
    assert main(paths) == 0
    assert asked == [Path(place)]


@pytest.mark.slow
def test_module_runs_from_the_command_line_with_another_target_and_baseline(tmp_path: Path) -> None:
    for optimizer in ("adamw", "madam"):
        for seed in range(3):
            synthetic.write_run(tmp_path / "in", optimizer=optimizer, seed=seed)
    command = [sys.executable, "-m", "bench.report", "in", "--out", "out", "--baseline", "madam",
               "--target", "mlp:val_accuracy>=0.5"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(bench.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "report: out/index.html\n"
    assert done.stderr == ""
    page = text_of(tmp_path / "out" / "index.html")
    assert "adamw needs" in page
    assert "val_accuracy ≥ 0.5" in page


def test_an_optimizer_keeps_its_colour_in_another_pool() -> None:
    small, large = make_palette(["adam", "madam"]), make_palette(["adam", "adamw", "madam", "muon", "adamuon", "sgd"])
    assert small.color("adam") == large.color("adam")
    assert small.color("madam") == large.color("madam")
    zoo = make_palette(f"optimizer_{i}" for i in range(24))
    assert len({(zoo.color(f"optimizer_{i}"), str(zoo.line(f"optimizer_{i}"))) for i in range(24)}) == 24
