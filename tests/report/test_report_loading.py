"""Reading run folders: any mixture, whatever somebody left there."""

import hashlib
import io
import json
import math
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.analysis.comparability import prepare
from bench.analysis.load import load
from bench.analysis.select import select
from tests.report import synthetic


def test_rows_and_metrics_of_every_run_are_read(tmp_path: Path) -> None:
    for seed in range(3):
        synthetic.write_run(tmp_path, seed=seed)
    loaded = load([tmp_path])
    assert loaded.problems.empty
    assert sorted(loaded.runs["seed"]) == [0, 1, 2]
    assert (loaded.metrics.groupby("run").size() == 21).all()
    assert loaded.runs["hyperparameters"].iloc[0]["optimizer.betas.1"] == 0.999
    assert loaded.runs["search_space"].iloc[0] == {"optimizer.lr": (1e-5, 1e-1)}


def test_overlapping_paths_read_a_run_once(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path)
    assert len(load([tmp_path, folder, tmp_path / "mlp"]).runs) == 1


@pytest.mark.parametrize("name", [".0123456789abcdef", "0123456789abcdef.tmp"])
def test_half_written_folders_are_passed_over(tmp_path: Path, name: str) -> None:
    folder = synthetic.write_run(tmp_path)
    folder.rename(folder.parent / name)
    loaded = load([tmp_path])
    assert loaded.runs.empty
    assert loaded.problems.empty


def test_links_are_not_followed(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path / "elsewhere")
    (tmp_path / "results").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "results" / "link")
    assert load([tmp_path / "results"]).runs.empty


def damage(folder: Path, kind: str) -> None:
    run, metrics = folder / "run.json", folder / "metrics.parquet"
    document = json.loads(run.read_text())
    if kind == "no metrics":
        metrics.unlink()
    elif kind == "no run.json":
        run.unlink()
    elif kind == "flipped byte":
        content = bytearray(metrics.read_bytes())
        content[len(content) // 2] ^= 1
        metrics.write_bytes(bytes(content))
    elif kind == "truncated":
        document["files"] = {}
        metrics.write_bytes(metrics.read_bytes()[:100])
    elif kind == "no JSON":
        run.write_text("{")
        return
    elif kind == "deep JSON":
        run.write_text("[" * 100_000)
        return
    elif kind == "not UTF-8":
        run.write_bytes(b'{"a": "\xff"}')
        return
    else:
        document |= {"version 99": {"schema_version": 99}, "status": {"status": "won"}, "seed": {"seed": "0"},
                     "id": {"run_id": ".."}, "name": {"config": {"task": {"name": 3}}},
                     "list": {"config": []}}[kind]  # fmt: skip
    if run.exists():
        run.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("kind", "words"),
    [("no metrics", "metrics.parquet is missing"), ("no run.json", "run.json is missing"), ("flipped byte", "checksum"),
     ("truncated", "damaged"), ("no JSON", "not readable JSON"), ("deep JSON", "not readable JSON"),
     ("not UTF-8", "not readable JSON"), ("version 99", "schema_version=99: expected"), ("status", "status=won: "),
     ("seed", "seed"), ("id", "run_id"), ("name", "config.task.name"),
     ("list", "config=[]: expected a mapping of keys to values")],
)  # fmt: skip
def test_what_cannot_be_used_is_listed_with_the_reason(tmp_path: Path, kind: str, words: str) -> None:
    damage(synthetic.write_run(tmp_path, seed=1), kind)
    synthetic.write_run(tmp_path, seed=2)
    loaded = load([tmp_path])
    assert len(loaded.runs) == 1
    assert words in loaded.problems["problem"].item()


def test_metrics_that_claim_absurd_sizes_or_miss_columns_are_refused(tmp_path: Path) -> None:
    for seed, table in enumerate(
        (pa.table({"step": [0]}), pa.table({"step": pa.nulls(3, pa.int64()), "val_loss": [1.0] * 3}))
    ):
        folder = synthetic.write_run(tmp_path, seed=seed)
        sink = io.BytesIO()
        pq.write_table(table, sink)
        (folder / "metrics.parquet").write_bytes(sink.getvalue())
        document = json.loads((folder / "run.json").read_text())
        document["files"]["metrics.parquet"] = hashlib.sha256(sink.getvalue()).hexdigest()
        (folder / "run.json").write_text(json.dumps(document))
    problems = set(load([tmp_path]).problems["problem"])
    assert problems == {"metrics.parquet has no column val_loss", "metrics.parquet has rows without a step"}


def test_a_failed_run_without_metrics_is_a_run(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path, status="failed")
    (folder / "metrics.parquet").unlink()
    document = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(document | {"files": {}}))
    assert load([tmp_path]).runs["status"].item() == "failed"


def test_runs_of_another_budget_data_precision_device_or_scale_are_split(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path)
    synthetic.write_run(tmp_path, task_config={"steps": 500})
    synthetic.write_run(tmp_path, task_config={"width": 128})
    synthetic.write_run(tmp_path, config={"precision": "bfloat16"})
    synthetic.write_run(tmp_path, loss_scale=2.0**-20)
    synthetic.write_run(tmp_path, seed=1, record={"fingerprint": {"data": "f" * 64, "code": ""}})
    runs, _, notes = prepare(load([tmp_path]).runs)
    assert runs["setting"].nunique() == 6
    assert any("loss × 2⁻²⁰" in setting for setting in runs["setting"])
    assert any("6 settings that are never mixed" in note for note in notes)


def test_where_the_data_lie_does_not_split(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path, task_config={"path": "/a/corpus.txt"})
    synthetic.write_run(tmp_path, task_config={"path": "/b/corpus.txt"}, seed=1)
    assert prepare(load([tmp_path]).runs)[0]["setting"].nunique() == 1


def test_two_classes_under_one_name_are_two_optimizers(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path)
    synthetic.write_run(tmp_path, seed=1, optimizer_config={"_target_": "mine.AdamW"})
    assert prepare(load([tmp_path]).runs)[0]["optimizer"].nunique() == 2


def test_a_diverged_run_is_infinite_in_medians_and_untrained_in_means(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path, status="diverged")
    _, used, _ = prepare(load([tmp_path]).runs)
    assert used["loss"].item() == math.inf
    assert used["finite_loss"].item() == synthetic.TASKS["mlp"]["initial"]


def test_an_older_repetition_of_a_trial_is_left_out(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path)
    synthetic.write_run(tmp_path, environment={"time": "2025"}, record={"run_id": "0" * 16})
    runs, used, notes = prepare(load([tmp_path]).runs)
    assert (len(runs), len(used)) == (2, 1)
    assert used["run_id"].item() != "0" * 16
    assert notes == ["Left out as older repetitions of the same trial: 1 run."]


def names_of(root: Path | dict[Path, str]) -> set[str]:
    return set(prepare(load(root if isinstance(root, dict) else [root]).runs)[0]["optimizer"])


def test_another_code_or_torch_under_one_name_is_another_arm_and_the_newest_keeps_the_name(tmp_path: Path) -> None:
    data = hashlib.sha256(b"mlp").hexdigest()
    synthetic.write_run(tmp_path, environment={"time": "2026-02-01T00:00:00+00:00"})
    synthetic.write_run(tmp_path, record={"run_id": "a" * 16, "fingerprint": {"data": data, "code": "b2" * 32}})
    synthetic.write_run(tmp_path, record={"run_id": "d" * 16}, environment={"torch": "2.12.0"})
    runs, used, notes = prepare(load([tmp_path]).runs)
    assert set(runs["optimizer"]) == {"adamw", "adamw @b2b2b2b", "adamw torch 2.12.0"}
    assert len(used) == 3
    assert any("3 versions of code or torch" in note for note in notes)


def test_a_structural_option_makes_another_arm_unless_it_was_swept(tmp_path: Path) -> None:
    for sweep, name in ((None, "apart"), ("grid", "swept")):
        for nesterov in (False, True):
            cell = {"sweep": {"name": sweep, "cell": {"optimizer.nesterov": nesterov}}} if sweep else {}
            synthetic.write_run(tmp_path / name, sweep=sweep, optimizer_config={"nesterov": nesterov}, record=cell)
    assert names_of(tmp_path / "apart") == {"adamw", "adamw nesterov"}
    assert names_of(tmp_path / "swept") == {"adamw"}


def test_labels_keep_the_runs_of_two_folders_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        synthetic.write_run(tmp_path / name)
    assert names_of({tmp_path / "a": "mine", tmp_path / "b": ""}) == {"adamw (mine)", "adamw"}


def test_what_one_optimizer_differs_in_between_labels_is_said_and_what_a_search_varied_is_not(tmp_path: Path) -> None:
    for folder, clip in (("a", None), ("b", 1.0)):
        for lr in (1e-3, 1e-2) if clip else (1e-3,):
            synthetic.write_run(tmp_path / folder, lr=lr, config={"clip_norm": clip})
            synthetic.write_run(tmp_path / folder, optimizer="lion", lr=lr)
    labelled = prepare(load({tmp_path / "a": "mine", tmp_path / "b": "theirs"}).runs)[2]
    [note] = [note for note in labelled if "label" in note]
    assert note == "mlp: adamw is not the same under each label: clip_norm none (mine), 1.0 (theirs)."
    assert not [note for note in prepare(load([tmp_path]).runs)[2] if "label" in note]


@pytest.mark.parametrize("labels", [("mine", "theirs"), ("", "")])
def test_runs_that_lie_in_several_folders_are_counted_and_their_losses_compared(
    tmp_path: Path, labels: tuple[str, str]
) -> None:
    folders = {tmp_path / name: label for name, label in zip(("a", "b"), labels, strict=True)}
    for folder in folders:
        for seed in range(3):
            synthetic.write_run(folder, seed=seed, final=0.5 if seed == 2 and folder.name == "b" else 0.4)
    synthetic.write_run(tmp_path / "b", seed=7)
    (note,) = [note for note in prepare(load(folders).runs)[2] if "several" in note]
    assert note.startswith("3 runs lie in several of the folders")
    assert "2 of them have the same final loss there, to the last bit" in note
    assert not [note for note in prepare(load([tmp_path / "b"]).runs)[2] if "several" in note]


def test_runs_are_selected_by_name_and_by_hyperparameter(tmp_path: Path) -> None:
    for lr in (1e-3, 1e-2, 1e-1):
        synthetic.write_run(tmp_path, lr=lr)
    synthetic.write_run(tmp_path, optimizer="lion", eps=None)
    loaded = load([tmp_path])
    assert len(select(loaded).runs) == 4
    assert len(select(loaded, optimizers=["adamw"], where=["optimizer.lr<=1e-2", "optimizer.lr!=0.001"]).runs) == 1
    assert set(select(loaded, where=["optimizer.eps=1e-8"]).runs["optimizer"]) == {"adamw"}


@pytest.mark.parametrize(
    "condition",
    ["task.steps<=200", "task.width=32", "task.target.value<0.3", "seed=1", "precision=float64", "optimizer.name=lion",
     "clip_norm=2", "average.name=ema", "schedule.warmup=0.5", "optimizer.betas.1<0.99"],
)  # fmt: skip
def test_every_key_of_a_configuration_selects_runs(tmp_path: Path, condition: str) -> None:
    synthetic.write_run(tmp_path, config={"average": {"name": "none"}})
    other = synthetic.write_run(
        tmp_path, optimizer="lion", seed=1, optimizer_config={"betas": [0.9, 0.98]},
        config={"precision": "float64", "clip_norm": 2.0, "average": {"name": "ema"}, "schedule": {"warmup": 0.5}},
        task_config={"steps": 100, "width": 32, "target": {"metric": "val_loss", "value": 0.1, "mode": "min"}},
    )  # fmt: skip
    [run_id] = select(load([tmp_path]), where=[condition]).runs["run_id"]
    assert run_id == other.name


def test_an_unknown_key_is_refused_with_the_nearest_and_all_that_there_are(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path)
    with pytest.raises(ValueError, match=r"no run has 'task.step', did you mean 'task.steps'\?") as refused:
        select(load([tmp_path]), where=["task.step<=60"])
    for key in ("clip_norm", "optimizer.betas.0", "optimizer.weight_decay", "seed", "task.batch_size", "task.width"):
        assert key in str(refused.value)


def test_several_names_come_with_commas_and_a_name_with_a_comma_is_one(tmp_path: Path) -> None:
    for name in ("adamw", "lion", "muon", "adamw a=1,b=2"):
        synthetic.write_run(tmp_path, optimizer=name)
    loaded = load([tmp_path])
    assert set(select(loaded, optimizers=["adamw,lion"]).runs["optimizer"]) == {"adamw", "lion"}
    both = select(loaded, optimizers=["adamw a=1,b=2", "muon"], tasks=["mlp"]).runs
    assert set(both["optimizer"]) == {"adamw a=1,b=2", "muon"}
    with pytest.raises(ValueError, match=r"^no optimizer 'sdg' in these runs \(there are: adamw, adamw a=1,b=2, lion"):
        select(loaded, optimizers=["adamw,sdg"])
