"""Pages of a few runs: hostile text, folders with nothing to say, mistakes on the command line."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from bench.report import write_report
from bench.report.__main__ import main
from bench.report.figures.epsilon import draw_epsilon, lr_eps_grid
from bench.report.figures.style import legend_below, make_palette, panels, style_context
from tests.processes import Command
from tests.report import synthetic
from tests.report.pages import findings, text_of


def test_a_grid_that_grew_at_some_eps_is_a_map_and_a_random_search_is_none() -> None:
    def cells(pairs: list[tuple[float, float]]) -> pd.DataFrame:
        values = [{"optimizer.lr": lr, "optimizer.eps": eps} for lr, eps in pairs]
        return pd.DataFrame({"values": values, "loss": range(len(values))})

    small = [(lr, eps) for eps in (1e-8, 1e-6, 1e-4) for lr in (1e-3, 1e-2)]
    grown = lr_eps_grid(cells([*small, *((10.0**power, 1e-4) for power in range(-1, 6))]))
    assert grown is not None
    assert grown.notna().sum().tolist() == [2, 2, 9]
    assert lr_eps_grid(cells([(1e-3, 1e-8), (2e-3, 3e-7), (5e-3, 1e-5)])) is None


@pytest.mark.slow
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


@pytest.mark.slow
def test_fresh_seeds_that_were_tuned_on_are_left_out(tmp_path: Path) -> None:
    synthetic.write_zoo(tmp_path, optimizers=("adamw", "madam"), trials=4, fresh=3)
    best = findings(tmp_path).final.query("task == 'mlp' and optimizer == 'adamw'").iloc[0]["hyperparameters"]
    synthetic.write_run(tmp_path, seed=0, sweep="fresh_seeds", lr=best["optimizer.lr"],
                        optimizer_config={"weight_decay": best["optimizer.weight_decay"]})  # fmt: skip
    found = findings(tmp_path)
    assert 0 not in set(found.final["seed"])
    assert any("had been tuned on" in note for note in found.notes)


HOSTILE = "<script>alert(1)</script>"


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_runs_that_nobody_can_compare_are_still_listed(tmp_path: Path, status: str) -> None:
    synthetic.write_run(tmp_path / "in", status=status)
    page = text_of(write_report([tmp_path / "in"], tmp_path / "out"))
    assert "None of these runs can be compared" in page
    assert f"1 {status}" in page


@pytest.mark.slow
def test_two_schema_versions_and_a_half_written_run_are_named(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path / "in")
    synthetic.write_run(tmp_path / "in", seed=1, record={"schema_version": 99})
    (tmp_path / "in" / "mlp" / "any" / ("a" * 16)).mkdir()
    page = text_of(write_report([tmp_path / "in"], tmp_path / "out"))
    assert "2 folders could not be read" in page
    assert "schema_version=99: expected at most 2" in page
    assert "run.json is missing" in page


@pytest.mark.slow
def test_a_new_report_removes_pictures_of_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path / "in")
    old, mine, page = (tmp_path / "out" / name for name in ("plots/old.png", "mine.txt", "index.html"))
    old.parent.mkdir(parents=True)
    for file in (old, mine):
        file.touch()
    page.write_text("a page of somebody else")
    write_report([tmp_path / "in"], tmp_path / "out")
    assert old.exists()
    write_report([tmp_path / "in"], tmp_path / "out")
    assert not old.exists()
    assert mine.exists()


@pytest.mark.slow
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
     (["mine=in", "mine=file"], "mine=file: the label mine is that of in; give each folder one of its own"),
     (["mine=in", "theirs=in"], "theirs=in: its runs are those of mine=in too"),
     (["in", "mine=in/mlp"], "mine=in/mlp: its runs are those of in too"),
     (["in", "--out", "file"], "--out file: cannot be written: Not a directory"),
     (["in", "--out", "file/deep"], "--out file/deep: cannot be written: Not a directory")],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    if "in" in arguments[0]:
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
def test_module_runs_from_the_command_line_with_another_target_and_baseline(
    start: Callable[..., Command], tmp_path: Path
) -> None:
    for optimizer in ("adamw", "madam"):
        for seed in range(3):
            synthetic.write_run(tmp_path / "in", optimizer=optimizer, seed=seed)
    done = start("bench.report", "in", "--out", "out", "--baseline", "madam",
                 "--target", "mlp:val_accuracy>=0.5").finish()  # fmt: skip
    first, last = done.stdout.splitlines()
    assert (done.returncode, last, done.stderr) == (0, "report: out/index.html", "")
    assert first.startswith("1 comparison with madam: ")
    assert first.endswith("they speak of these settings, not of the optimizers.")
    page = text_of(tmp_path / "out" / "index.html")
    assert "adamw needs" in page
    assert "val_accuracy ≥ 0.5" in page


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.filterwarnings("error")
def test_a_long_legend_leaves_its_panels_their_height(narrow: bool) -> None:
    names = [f"optimizer_number_{number}" for number in range(24)]

    def panel_height(num_names: int) -> float:
        palette = make_palette(names, narrow=narrow)
        figure, (axis,) = panels(["task"], palette)
        legend_below(figure, palette, names[:num_names])
        figure.draw_without_rendering()
        return float(axis.get_window_extent().height)

    with style_context():
        assert panel_height(24) == pytest.approx(panel_height(4), rel=0.1)


def test_an_optimizer_keeps_its_colour_in_another_pool() -> None:
    small, large = make_palette(["adam", "madam"]), make_palette(["adam", "adamw", "madam", "muon", "adamuon", "sgd"])
    assert small.color("adam") == large.color("adam")
    assert small.color("madam") == large.color("madam")
    zoo = make_palette(f"optimizer_{i}" for i in range(24))
    assert len({(zoo.color(f"optimizer_{i}"), str(zoo.line(f"optimizer_{i}"))) for i in range(24)}) == 24
