"""The judge from its command line to its verdict: planted optimizers, kills, candidates that are remembered."""

import io
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from bench.analysis.findings import analyse
from bench.analysis.judged import LookAt, TaskVerdict, Verdict
from bench.analysis.load import load
from bench.analysis.scores import deviations
from bench.analysis.sequential import FAILS_MORE, SAME, UNRESOLVED, Word
from bench.errors import ConfigError, StoreError
from bench.jobs.plan import Plan
from bench.judge.__main__ import main
from bench.judge.judge import Judge
from bench.judge.ledger import LEDGER_FILE, Ledger
from bench.judge.question import compose_arm, parse_question
from bench.judge.terminal import print_question, print_verdict
from tests.processes import Command, at_call

PLANTED = '''
"""AdamW whose update is multiplied by one, and one that goes anywhere."""

import torch

from optimizers.adam import AdamW, calculate_adam_update
from optimizers.rule import Rule, zeros_state


def update_scaled(grad, exp_avg, exp_avg_sq, *, betas, eps, correct_bias, nesterov, step):
    return 1.0 * calculate_adam_update(
        grad, exp_avg, exp_avg_sq, betas=betas, eps=eps, correct_bias=correct_bias, nesterov=nesterov, step=step
    )


def update_randomly(grad, exp_avg, exp_avg_sq, *, betas, eps, correct_bias, nesterov, step):
    wave = torch.arange(grad.numel(), dtype=grad.dtype).reshape(grad.shape) + 1.0
    return torch.sin(wave * wave * 12.9898 + step + 0.0 * grad)


class Scaled(AdamW):
    rule = Rule(update_scaled, zeros_state("exp_avg", "exp_avg_sq"), "single")


class Random(AdamW):
    rule = Rule(update_randomly, zeros_state("exp_avg", "exp_avg_sq"), "single")
'''
SHORT = ["report=false", "sweep.search.num_trials=4", "sweep.fresh_seeds=[100,101]", "device=cpu"]
TINY = {
    "quadratic": ["task=quadratic", "task.steps=40", "task.eval_every=40", "task.rows=4", "task.columns=4"],
    "mlp": ["task=mlp", "task.steps=60", "task.eval_every=60", "task.width=8", "task.batch_size=16"],
}


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`judge("optimizer=x", ...)` is the verdict, from a folder with planted optimizers `scaled` and `random`."""
    write_planted(tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> dict[str, Any]:
        assert main([*args, *SHORT, "--config-dir", "conf", "results_dir=judged"]) == 0
        verdict: dict[str, Any] = json.loads((tmp_path / "judged" / "verdict.json").read_text())
        return verdict

    return run


def write_planted(folder: Path) -> None:
    (folder / "optimizers").mkdir()
    (folder / "optimizers" / "planted.py").write_text(PLANTED)
    adamw = (Path(__file__).parents[2] / "conf" / "optimizer" / "adamw.yaml").read_text()
    (folder / "conf" / "optimizer").mkdir(parents=True)
    for name in ("scaled", "random"):
        text = adamw.replace("name: adamw", f"name: {name}").replace(
            "optimizers.adam.AdamW", f"optimizers.planted.{name.title()}"
        )
        (folder / "conf" / "optimizer" / f"{name}.yaml").write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("task", TINY)
def test_an_optimizer_that_is_adamw_is_never_judged_different(judge: Any, task: str) -> None:
    (answer,) = judge("optimizer=scaled", *TINY[task])["tasks"]
    assert answer["verdict"] == "practically the same"
    assert answer["ratio"] == 1.0
    assert [look["searches"] for look in answer["looks"]] == [3]


@pytest.mark.slow
@pytest.mark.parametrize("task", TINY)
def test_an_optimizer_that_goes_anywhere_is_judged_worse(judge: Any, tmp_path: Path, task: str) -> None:
    verdict = judge("optimizer=random", *TINY[task])
    (answer,) = verdict["tasks"]
    assert answer["verdict"] == "worse"
    assert answer["ratio_low"] > 1
    Verdict.model_validate(verdict)
    picture = (tmp_path / "judged" / "verdict.svg").read_text(encoding="utf-8")
    assert all(
        f">{text}</text>" in picture for text in ("worse", f"{task}, {answer['looks'][-1]['searches']} searches")
    )
    found = analyse(load([tmp_path / "judged"]), baseline="adamw")  # what the report says of the same runs
    assert found is not None
    between, within = deviations(found.final[found.final["optimizer"] == "random"])
    assert (answer["sd_searches"], answer["sd_seeds"]) == pytest.approx((between, within))


@pytest.mark.slow
def test_asking_again_trains_nothing_and_gives_the_same_files(
    judge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge("optimizer=scaled", *TINY["quadratic"])
    files = [tmp_path / "judged" / f"verdict.{kind}" for kind in ("json", "svg", "png")]
    first = [file.read_bytes() for file in files]
    monkeypatch.setattr("bench.jobs.runner.train", None)
    judge("optimizer=scaled", *TINY["quadratic"])
    assert [file.read_bytes() for file in files] == first


@pytest.mark.slow
def test_when_the_time_is_up_the_cheapest_look_was_taken_and_more_time_goes_on(
    judge: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate(plan: Plan) -> float:
        return len(plan.trials) * {"quadratic": 2.0, "rosenbrock": 1.0}[plan.trials[0].config.task.name]

    monkeypatch.setattr("bench.judge.judge.estimate_seconds", estimate)
    question = ["optimizer=scaled", "task=quadratic,rosenbrock", "task.steps=20", "task.eval_every=20"]
    first, second = judge(*question, "minutes=1e-6")["tasks"]
    assert [look["searches"] for look in second["looks"]] == [3]
    assert [look["searches"] for look in first["looks"]] == [0]
    assert (first["verdict"], first["ratio"], first["ratio_low"], first["searches_needed"]) == ("unresolved",) + 3 * (
        None,
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "1e-06 minutes will buy 0 on quadratic, rosenbrock" in said
    assert "quadratic: there was no time for the first look" in said
    assert (tmp_path / "judged" / "verdict.png").exists()
    again = judge(*question, "minutes=null")["tasks"]
    assert [task["looks"][0]["searches"] for task in again] == [3, 3]


@pytest.fixture(scope="module")
def estimated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    """A judge of two tasks: a search takes 10 s on one and 5 s on the other."""

    def estimate(plan: Plan) -> float:
        assert plan.sweep.search
        return plan.sweep.search.replicates * {"quadratic": 10.0, "rosenbrock": 5.0}[plan.trials[0].config.task.name]

    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.judge.judge.estimate_seconds", estimate)
        yield Judge(parse_question(["optimizer=lion", "task=quadratic,rosenbrock", f"results_dir={folder}"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("minutes", "buys"),
    [
        (5.6, " 5.6 minutes will buy 12 on rosenbrock; 8 on quadratic; more where a task is decided earlier."),
        (2.3, " 2.3 minutes will buy 12 on rosenbrock; 0 on quadratic; more where a task is decided earlier."),
        (1.0, " 1 minute will buy 5 on rosenbrock; 0 on quadratic; more where a task is decided earlier."),
        (6.7, ""),
        (None, ""),
    ],
)
def test_what_the_time_buys_is_said_beforehand(
    minutes: float | None, buys: str, estimated: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimated, "question", replace(estimated.question, minutes=minutes))
    console = Console(file=StringIO(), width=500)
    print_question(estimated, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"would take about 6 min of training.{buys}" in said
    assert (" will buy" in said) is bool(buys)


def test_the_keys_that_are_searched_are_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "seconds_to_look", lambda *args: 1.0)
    console = Console(file=StringIO(), width=500)
    asked = ["optimizer=optimizers.signum.Signum", *TINY["quadratic"], f"results_dir={tmp_path}"]
    print_question(Judge(parse_question(asked)), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert (
        "Searched: optimizers.signum.Signum over lr, momentum, weight_decay; "
        "adamw over lr, weight_decay, betas.0, betas.1, eps. "
        "Others are searched where search_space in the optimizer's yaml names them." in said
    )


@pytest.mark.parametrize("own", [[], ["optimizer.lr=0.01"], ["optimizer.eps=1e-6", "baseline.eps=1e-6"]])
def test_the_baseline_is_no_candidate_against_itself(own: list[str], tmp_path: Path) -> None:
    question = parse_question(["optimizer=adamw", *own, *TINY["quadratic"], f"results_dir={tmp_path}"])
    with pytest.raises(ConfigError, match="is the baseline itself, trial by trial; --self compares"):
        Judge(question)


def test_the_baseline_with_another_setting_is_a_candidate(tmp_path: Path) -> None:
    Judge(parse_question(["optimizer=adamw", "optimizer.lr=0.003", *TINY["quadratic"], f"results_dir={tmp_path}"]))


def test_every_further_candidate_gets_a_smaller_share_of_the_error(tmp_path: Path) -> None:
    same = [*TINY["quadratic"], f"results_dir={tmp_path}"]
    judges = [Judge(parse_question([f"optimizer={name}", *same])) for name in ("lion", "sgd", "lion")]
    assert [judge.number for judge in judges] == [1, 2, 1]
    assert [judge.level for judge in judges] == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 2])


@pytest.mark.slow
def test_every_candidate_keeps_its_verdict(judge: Any, tmp_path: Path) -> None:
    for name in ("scaled", "random"):
        verdict = judge(f"optimizer={name}", *TINY["quadratic"], "task.steps=2", "task.eval_every=2", "minutes=1e-6")
        (kept,) = (tmp_path / "judged" / "verdicts").glob(f"{name}-*.json")
        assert json.loads(kept.read_text()) == verdict


@pytest.mark.slow
def test_a_killed_judge_comes_to_the_same_verdict_bit_for_bit(start: Callable[..., Command], tmp_path: Path) -> None:
    write_planted(tmp_path)
    judge = partial(start, "bench.judge", "optimizer=random", *TINY["mlp"], *SHORT, "--config-dir", "conf")
    kill = partial(at_call, "bench.runs.store.Store.save", 6, partial(signal.raise_signal, signal.SIGKILL))
    assert judge("results_dir=killed", before=kill).finish().returncode == -signal.SIGKILL
    killed = tmp_path / "killed"
    assert len(list(killed.glob("mlp/*/[0-9a-f]*/run.json"))) == 5
    assert not (killed / "verdict.json").exists()
    for folder in ("killed", "calm"):
        done = judge(f"results_dir={folder}").finish()
        assert done.returncode == 0, done.stderr
    assert (killed / "verdict.json").read_bytes() == (tmp_path / "calm" / "verdict.json").read_bytes()


@pytest.mark.slow
def test_the_same_trials_chosen_by_another_loss_are_another_candidate(judge: Any) -> None:
    asked = ["optimizer=scaled", "average=ema", *TINY["quadratic"], "task.steps=2", "task.eval_every=2", "minutes=1e-6"]
    verdicts = [judge(*asked, f"sweep.objective={objective}") for objective in ("val_loss", "ema_val_loss", "val_loss")]
    assert [verdict["candidate_number"] for verdict in verdicts] == [1, 2, 1]
    assert [verdict["alpha"] for verdict in verdicts] == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 2])


@pytest.mark.slow
def test_several_candidates_are_judged_against_the_same_searches(
    judge: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge("optimizer=scaled,random", *TINY["quadratic"], "task.steps=2", "task.eval_every=2", "minutes=1e-6")
    numbers = {}
    for kept in (tmp_path / "judged" / "verdicts").glob("*.json"):
        verdict = json.loads(kept.read_text())
        numbers[verdict["candidate"]] = verdict["candidate_number"]
    assert numbers == {"scaled": 1, "random": 2}
    trained = {name: len(list((tmp_path / "judged" / "quadratic" / name).glob("*/run.json")))
               for name in ("adamw", "scaled", "random")}  # fmt: skip
    assert len(set(trained.values())) == 1
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()[-2:]] == [
        "scaled against adamw", "random against adamw",
    ]  # fmt: skip


def test_a_mistake_in_the_last_candidate_is_told_ahead_of_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["optimizer=lion,lionn", "task=quadratic", "results_dir=judged"]) == 2
    assert "optimizer=lionn: no such optimizer, did you mean 'lion'?" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def shown(verdict: Verdict, width: int | None = None, *, is_out_of_time: bool = False) -> str:
    """What the terminal says of a verdict on one task, or a file where there is no width."""
    console = Console(width=width or 40, force_terminal=width is not None, file=io.StringIO(), color_system=None)
    judge = SimpleNamespace(tasks=[SimpleNamespace(is_out_of_time=is_out_of_time)])
    print_verdict(verdict, judge, console)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def verdict_of(word: Word, searches_needed: float | None = None, sd_searches: float | None = 0.123456789) -> Verdict:
    look = LookAt(searches=12, level=0.01, difference=0.1234567, low=-1.234567, high=1.234567, verdict=word, failed=12,
                  baseline_failed=12, failure_p_value=0.5, failure_verdict=FAILS_MORE)  # fmt: skip
    task = TaskVerdict(task="matrix_factorization", verdict=word, failure_verdict=FAILS_MORE, ratio=1.123456789,
                       ratio_low=0.123456789, ratio_high=12.3456789, margin=0.1, sd_searches=sd_searches,
                       sd_seeds=0.123456789, baseline_sd_searches=0.1, baseline_sd_seeds=0.1,
                       searches_needed=searches_needed, looks=[look])  # fmt: skip
    return Verdict(candidate="lion", baseline="adamw", candidate_number=1, alpha=0.025, trials_per_search=8,
                   fresh_seeds=[100], planned_looks=[3], notes=[], tasks=[task])  # fmt: skip


@pytest.mark.parametrize("width", [70, 80, 120, None])
def test_the_verdict_has_a_line_per_cell_whatever_the_width(width: int | None) -> None:
    rows = [line for line in shown(verdict_of(SAME), width).splitlines() if line.startswith("matrix_factorization")]
    assert [len(row.split()) for row in rows] == [1 + 3 + 4, 1 + 3 + 1 + 2 + 2]
    assert max(map(len, rows)) <= (width or 80)


@pytest.mark.parametrize(("sd_searches", "cell"), [(0.0, "below noise"), (None, "-"), (0.5, "0.5")])
def test_a_deviation_that_was_cut_off_at_zero_is_not_told_as_zero(sd_searches: float | None, cell: str) -> None:
    said = shown(verdict_of(SAME, sd_searches=sd_searches), 70).splitlines()
    rows = [line for line in said if line.startswith("matrix_factorization")]
    assert rows[-1].rsplit(None, 1)[0].endswith(f" {cell}")
    assert any(line.startswith("below noise: ") for line in said) is (cell == "below noise")
    assert max(map(len, rows)) <= 70


@pytest.mark.parametrize(
    ("needed", "text"),
    [
        (None, "; 1000 searches are too few to find a ratio of 1.22, twice the margin."),
        (37, "; 37 searches find a ratio of 1.22, twice the margin, in 80 % of cases."),
        (9, ", though 9 find a ratio of 1.22, twice the margin, in 80 % of cases: the difference is smaller than that, "
            "or this is one of the other cases."),
    ],
)  # fmt: skip
def test_an_open_question_says_how_many_searches_would_find_twice_the_margin(needed: float | None, text: str) -> None:
    assert f"matrix_factorization: 12 searches of each leave it open{text}\n" in shown(verdict_of(UNRESOLVED, needed))


def test_a_class_without_a_yaml_is_searched_over_ranges_as_wide_as_everybodys() -> None:
    question = parse_question(["optimizer=torch.optim.RAdam", "optimizer.lr=0.002", "task=mlp"])
    section = compose_arm(question, question.candidate, "mlp")["optimizer"]
    space = section["search_space"]
    assert (section["_target_"], section["lr"]) == ("torch.optim.RAdam", 0.002)
    assert space["lr"]["high"] / space["lr"]["low"] == pytest.approx(1000, rel=0.01)
    assert space["eps"]["high"] / space["eps"]["low"] == pytest.approx(1e8, rel=0.01)
    assert {"betas.0", "betas.1", "weight_decay"} <= set(space)


def test_the_options_of_one_side_stay_on_that_side() -> None:
    question = parse_question(["optimizer=adam", "optimizer.eps=1e-6", "baseline.lr=0.5", "task=mlp", "task.steps=7"])
    candidate, baseline = (compose_arm(question, arm, "mlp") for arm in (question.candidate, question.baseline))
    assert (candidate["optimizer"]["eps"], baseline["optimizer"]["eps"]) == (1e-6, 1e-8)
    assert (candidate["optimizer"]["lr"], baseline["optimizer"]["lr"]) == (0.01, 0.5)
    assert candidate["task"]["steps"] == baseline["task"]["steps"] == 7


def test_the_baseline_against_itself_searches_elsewhere_and_is_shown_on_the_same_seeds() -> None:
    question = parse_question(["--self", "task=mlp"])
    anew, baseline = (compose_arm(question, arm, "mlp")["sweep"] for arm in (question.candidate, question.baseline))
    assert anew["search"]["seed"] != baseline["search"]["seed"]
    assert anew["axes"]["seed"] != baseline["axes"]["seed"]
    assert anew["fresh_seeds"] == baseline["fresh_seeds"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["task=mlp"], "which optimizer"),
        (["optimzer=lion"], "optimzer=lion: no such key, did you mean optimizer=lion?"),
        (["optimizer=lion", "basline.lr=0.1"], "basline.lr=0.1: no such key, did you mean baseline.lr=0.1?"),
        (["optimizer=lion", "minuts=3"], "did you mean minutes=3?"),
        (["optimizer=adam", "minutes=-1"], "minutes=-1: expected a number of minutes above 0"),
        (["optimizer=adam", "baseline=adamw,muon"], "several candidates are optimizer=NAME,NAME"),
        (["optimizer=adam", "seed=3"], "sets this by itself"),
        (["optimizer=adam", "sweep.search.replicates=3"], "sets this by itself"),
        (["optimizer=adam", "task=mlp", "suite=core"], "give one of both"),
        (["optimizer=adam", "suite=cores"], "expected one of core"),
        (["--self", "optimizer=adam"], "leave it out"),
    ],
)
def test_a_wrong_question_is_told_in_one_line(args: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]+$") as error:
        parse_question(args)
    assert words in str(error.value)


def test_a_key_that_is_added_is_no_misspelt_one() -> None:
    question = parse_question(["optimizer=adam", "task=mlp", "+task.accumulate=2", "++seeds=1"])
    assert question.overrides == ("+task.accumulate=2", "++seeds=1")


@pytest.mark.parametrize("word", ["mlp", "--slef", "--minutes=3"])
def test_a_word_that_means_nothing_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimizer=adam", word]) == 2
    assert capsys.readouterr().err.startswith(f"error: {word}: expected KEY=VALUE, --config-dir DIR, --self")


def test_a_damaged_ledger_is_refused_rather_than_begun_anew(tmp_path: Path) -> None:
    Ledger(tmp_path).number("a" * 16, "x", "adamw", ["mlp"])
    (tmp_path / LEDGER_FILE).write_text('[{"key": 1}]')
    with pytest.raises(StoreError, match="is damaged"):
        Ledger(tmp_path).number("b" * 16, "y", "adamw", ["mlp"])


def test_the_schema_of_a_verdict_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["required"]) >= {"candidate", "baseline", "tasks", "alpha"}
