"""A report on what the judge trained begins with the judge's own words, and calls its own count another look."""

from pathlib import Path

import pytest

from bench.analysis.judged import read_verdicts
from bench.report import write_report
from bench.report.judged import judge_sentences, name_folders
from tests.report import synthetic
from tests.report.pages import text_of

WORDS = "The judge on mine against adamw: unresolved on mlp (loss × 1.10, interval 0.90 to 1.34, 5 searches of each)."
MISSING = "what the judge said there is missing"
OTHER = "All else here is one look at all runs that lie here, under another correction, and no second verdict."


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Every run of mine ends with the higher loss, by far: the page's own count says worse."""
    judge = tmp_path / "results" / "judge"
    for seed in range(4):
        synthetic.write_run(judge, optimizer="adamw", seed=seed, final=0.1)
        synthetic.write_run(judge, optimizer="mine", seed=seed, final=0.9)
    synthetic.write_answer(judge, "mine", mlp="unresolved")
    return tmp_path / "results"


def report(results: Path, **options: list[str]) -> tuple[str, str, str]:
    """What the terminal, the page and the Markdown say."""
    told: list[str] = []
    page = write_report([results], results.parent / "report", tell=told.append, **options)
    return told[-1], text_of(page), page.with_name("report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("below", [pytest.param(".", marks=pytest.mark.slow), "judge"])
def test_the_judges_words_come_before_the_reports_own_count(results: Path, below: str) -> None:
    (results / "judge" / "verdicts" / "damaged.json").touch()
    told, page, markdown = report(results / below)
    assert told.startswith(f"{WORDS}\n{OTHER} 1 comparison with adamw: 1 worse.")
    lead = page[page.index('class="lead"') :]
    assert lead.index(WORDS) < lead.index(OTHER) < lead.index("1 comparison with adamw") < lead.index("The judge&#39;s")
    assert told.count(MISSING) == page.count(MISSING) == 1
    assert markdown.index(WORDS) < markdown.index("1 comparison with adamw")
    assert "| mlp | mine | adamw | unresolved | 1.10 | 0.90 to 1.34 | 5 | 1 and 0 |" in markdown


@pytest.mark.slow
def test_each_candidate_of_each_folder_has_its_words_once_and_a_choice_of_tasks_holds_for_them_too(
    results: Path,
) -> None:
    synthetic.write_answer(results / "judge", "lion", 2, mlp="better", cifar="worse")
    told, _, _ = report(results)
    assert (told.count(" on mine against"), told.count(" on lion against")) == (1, 1)
    synthetic.write_answer(results / "again", "mine", mlp="unresolved")
    synthetic.write_answer(results / "again", "lion", 2, mlp="worse")
    told, page, _ = report(results, tasks=["mlp"])
    lines = [
        "The judge in again on mine against adamw: unresolved on mlp.",
        "The judge in again on lion against adamw: worse on mlp.",
        "The judge in judge on mine against adamw: unresolved on mlp.",
        "The judge in judge on lion against adamw: better on mlp.",
    ]
    assert told.splitlines()[:4] == lines
    assert all(line in page for line in lines)
    assert str(results) not in page[: page.index("Explore")]
    assert "cifar" not in page


def test_a_question_about_many_tasks_has_one_line_which_counts_them() -> None:
    tasks = [f"a_task_with_quite_a_long_name_{number}" for number in range(13)]
    words = dict.fromkeys(tasks[:1], "better") | dict.fromkeys(tasks[1:], "unresolved")
    verdict = synthetic.answer("mine", 1, **words)
    assert judge_sentences([(Path(), verdict)]) == [
        f"The judge on mine against adamw: better on {tasks[0]}; unresolved on 12 tasks."
    ]


@pytest.mark.parametrize(
    ("folders", "roots", "names"),
    [
        (["a/b/c", "a/b/d"], ["a"], ["b/c", "b/d"]),
        (["a/b/c", "a/b/d"], ["a/b/c", "a/b/d"], ["c", "d"]),
        (["a", "a/b"], ["a"], ["a", "b"]),
    ],
)
def test_a_folder_is_called_as_it_lies_below_the_one_that_was_asked_for(
    folders: list[str], roots: list[str], names: list[str]
) -> None:
    verdict = synthetic.answer("mine", 1, mlp="better")
    named = name_folders([(Path(folder), verdict) for folder in folders], map(Path, roots))
    assert [str(folder) for folder, _ in named] == names


def test_a_folder_that_is_spelled_in_two_ways_has_given_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.write_answer(tmp_path, "mine", mlp="unresolved")
    monkeypatch.chdir(tmp_path.parent)
    answers, _ = read_verdicts([tmp_path, Path(tmp_path.name)])
    assert len(answers) == 1


@pytest.mark.parametrize("content", ["{}", "[" * 9000, '{"candidate": "<b>"}'])
def test_a_damaged_verdict_is_a_note_and_the_others_are_read(tmp_path: Path, content: str) -> None:
    synthetic.write_answer(tmp_path, "mine", mlp="unresolved")
    (tmp_path / "verdict.json").write_text(content)
    [(folder, verdict)], [note] = read_verdicts([tmp_path])
    assert (folder, verdict.candidate) == (tmp_path, "mine")
    assert note.startswith(f"{tmp_path / 'verdict.json'}")
    assert MISSING in note
