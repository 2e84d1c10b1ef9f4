"""A run's id: equal for what computes the same numbers, however it is spelled, and another one where the code does."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.comparability import prepare
from bench.analysis.load import load
from bench.jobs.job import run_job
from bench.jobs.plan import Plan, make_plan, with_cell
from bench.runs import identity, sources
from bench.runs.identity import meaning_of
from tests.fuzzing.configurations import compose_mapping
from tests.harness.conftest import TEXT

Mapping = Callable[..., dict[str, Any]]
MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
TRIALS = (["optimizer=adamw"], ["optimizer=muon", "schedule=wsd"], ["optimizer=sgd", "task=rosenbrock"])


@pytest.fixture(scope="module")
def configs() -> list[dict[str, Any]]:
    """A few different configurations."""
    return [compose_mapping(["task=quadratic", *trial]) for trial in TRIALS]


def ids(configs: Sequence[dict[str, Any]]) -> list[str]:
    """The run ids of the trials of these configurations, by the sources as they are now."""
    sources.digest_file.cache_clear()
    identity._digest_sources.cache_clear()
    return [id_of(config) for config in configs]


def id_of(config: dict[str, Any]) -> str:
    return make_plan(config).trials[0].run_id


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("clip_norm", 1, 1.0),
        ("optimizer.weight_decay", 0, 0.0),
        ("optimizer.weight_decay", 0.0, -0.0),
        ("diverge_factor", 10, 10.0),
        ("task.target.value", 1, 1.0),
        ("schedule.warmup_fraction", 0, 0.0),
        ("optimizer.betas", [0, 0.99], [0.0, 0.99]),
        ("optimizer.paper", "this", "that"),
    ],
)
def test_one_value_in_two_spellings_is_one_run(
    configs: list[dict[str, Any]], key: str, one: object, other: object
) -> None:
    assert id_of(with_cell(configs[0], {key: one})) == id_of(with_cell(configs[0], {key: other}))


def test_true_is_not_one_and_the_gpus_of_a_machine_are_alike(configs: list[dict[str, Any]]) -> None:
    config = configs[0]
    assert meaning_of({**config, "device": "cuda:1"}) == meaning_of({**config, "device": "cuda"})
    one, true = ({**config, "optimizer": {**config["optimizer"], "eps": value}} for value in (1, True))
    assert meaning_of(one)["optimizer"]["eps"] is not meaning_of(true)["optimizer"]["eps"]


def test_one_corpus_under_three_paths_is_one_run_and_one_setting(
    mapping: Mapping, plan: MakePlan, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copy.txt").write_text(TEXT)
    paths = ["copy.txt", "./text.txt", str(tmp_path / "text.txt")]
    trials = [plan(*small("gpt_nano"), f"task.path={path}").trials[0] for path in paths]
    assert len({trial.run_id for trial in trials}) == 1
    for number, path in enumerate(paths):
        run_job(mapping(*small("gpt_nano"), f"task.path={path}", "task.steps=2", f"results_dir=out{number}"))
    runs, _, _ = prepare(load([tmp_path]).runs)
    assert len(runs) == 3
    assert runs["setting"].nunique() == 1


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the training room that identities are taken from."""
    folder = tmp_path / "training"
    shutil.copytree(identity.TRAINING, folder)
    monkeypatch.setattr(identity, "TRAINING", folder)
    return folder


@pytest.fixture(scope="module")
def before(configs: list[dict[str, Any]]) -> list[str]:
    """Their run ids by the sources as they stand."""
    return ids(configs)


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("components.py", "expected a finite number", "a finite number was expected"),
        ("train.py", "go on from step", "are resumed at step"),
        ("record.py", "the training loss became non-finite", "the loss was no number"),
        ("loop.py", "Train until every trial has ended", "Train the trials"),
        ("loop.py", "        self.step += 1\n", "        # one more\n\n        self.step  +=  1\n"),
        ("loop.py", "def restore(self, state: State) -> None:", "def restore(self, state):"),
    ],
)
def test_a_reworded_text_changes_no_run_id(
    configs: list[dict[str, Any]], before: list[str], training: Path, name: str, old: str, new: str
) -> None:
    rewrite(training / name, old, new)
    assert ids(configs) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("loop.py", "self.step += 1", "self.step += 2"),
        ("seeds.py", "{task}/{purpose}/{seed}", "{purpose}/{task}/{seed}"),
        ("ensemble_optimizer.py", "self.num_steps += 1", "self.num_steps += 2"),
    ],
)
def test_a_changed_loop_changes_all_run_ids(
    configs: list[dict[str, Any]], before: list[str], training: Path, name: str, old: str, new: str
) -> None:
    rewrite(training / name, old, new)
    assert not set(ids(configs)) & set(before)


def test_what_an_optimizer_imports_of_its_own_package_counts(
    configs: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "house_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sums.py").write_text(
        "import torch\n\n\ndef make_class():\n    from .constants import BASE\n    return BASE\n"
    )
    (package / "constants.py").write_text("import torch\n\nBASE, DAMPING = torch.optim.SGD, 0.5\n")
    (package / "unused.py").write_text("X = 1\n")
    (package / "own.py").write_text(
        "from house_of_mine.sums import make_class\n\n\nclass Own(make_class()):\n    ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def own_id() -> str:
        (identity,) = ids([with_cell(configs[2], {"optimizer._target_": "house_of_mine.own.Own"})])
        return identity

    first = own_id()
    rewrite(package / "unused.py", "1", "2")
    assert own_id() == first
    rewrite(package / "constants.py", "0.5", "0.25")
    assert own_id() != first


def test_somebody_elses_package_is_identified_by_version() -> None:
    (text,) = sources.find_sources("torch.optim.sgd")
    assert text.startswith("torch 2.")
    assert "+" not in text
