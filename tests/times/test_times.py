"""Interleaved rounds: a turn for everybody in each, kept where a report finds them, and ratios that are paired."""

from pathlib import Path

import pytest

from bench.analysis.load import TIMED_COLUMNS, load
from bench.runs.rounds import Round, Session, read_sessions
from bench.times.__main__ import main
from bench.times.measure import cost_rows

TINY = ["task=quadratic", "task.rows=2", "task.columns=1", "device=cpu"]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr("bench.times.measure.TARGET_SECONDS", 0.001)
    assert (
        main(["optimizer=adamw,torch.optim.SGD", *TINY, "rounds=3", f"results_dir={tmp_path / 'deep' / 'results'}"])
        == 0
    )
    ((path, session),) = read_sessions(tmp_path)
    assert path.parent == tmp_path / "deep" / "results" / "times"
    assert isinstance(session, Session)
    return session


def test_every_optimizer_has_its_turn_in_every_round(session: Session) -> None:
    turns = {(turn.round, turn.optimizer) for turn in session.rounds}
    assert turns == {(number, name) for number in range(3) for name in ("adamw", "sgd")}
    assert len(session.rounds) == 6


def test_a_slow_moment_hits_a_round_and_not_the_ratio(session: Session) -> None:
    speeds = {"adamw": 0.002, "sgd": 0.001}
    rounds = [Round(round=n, optimizer=name, step_seconds=seconds * load)
              for n, load in enumerate((1.0, 1.01, 5.0)) for name, seconds in speeds.items()]  # fmt: skip
    fast, _ = cost_rows(session.model_copy(update={"rounds": rounds}), "adamw")
    assert fast["optimizer"] == "sgd"
    assert fast["times adamw"] == pytest.approx(0.5)
    assert fast["from"] == pytest.approx(fast["to"])


def test_the_report_finds_the_rounds(session: Session, tmp_path: Path) -> None:
    rounds = load([tmp_path]).rounds
    assert list(rounds.columns) == TIMED_COLUMNS
    assert sorted(zip(rounds["round"], rounds["optimizer"], strict=True)) == sorted(
        (turn.round, turn.optimizer) for turn in session.rounds
    )
    assert set(rounds["task"]) == {"quadratic"}


def test_a_damaged_file_of_rounds_is_named_and_read_past(session: Session, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "results" / "times"
    (folder / "bad.json").write_text('{"schema_version": 1, "session": 3}')
    loaded = load([tmp_path])
    assert set(loaded.rounds["session"]) == {session.session}
    ((problem,),) = loaded.problems[["problem"]].to_numpy()
    assert problem.startswith("bad.json.")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["task=mlp"], "which optimizers"),
        (["optimzer=adam"], "optimzer=adam: no such key, did you mean optimizer=adam?"),
        (["optimizer=adam", "rounds=2"], "from 3 to"),
        (["--config-dir", ".", "optimizer=adum"], "adam"),
        (["--config-dir", "nowhere", "optimizer=adam"], "--config-dir=nowhere: no such folder"),
    ],
)
def test_a_mistake_is_told_in_one_line(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1 + told.count("processes run")
