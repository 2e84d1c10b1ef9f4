"""`python -m bench.judge optimizer=NAME`: a question in one line, a word per task."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.cli.arguments import admit_own_files, check_words
from bench.cli.explain import check_choices, explain, is_mistake
from bench.errors import JobFailedError, stoppable, tell_error

if TYPE_CHECKING:
    from bench.analysis.judged import Verdict
    from bench.judge.judge import Judge

USAGE = """\
usage: python -m bench.judge optimizer=NAME,NAME [baseline=NAME] [task=NAME,NAME] [suite=core] [minutes=20] [KEY=VALUE]
       python -m bench.judge --self [baseline=NAME] ...      the baseline against itself, tuned anew
       python -m bench.judge --schema                        the JSON schema of verdict.json

Is each NAME better than the baseline, adamw, tuned by the same search? NAME is a yaml in conf/optimizer/, or in
DIR/optimizer/ with --config-dir DIR, or the import path of a class, such as torch.optim.RAdam. Per task one of four
words: better, worse, practically the same, unresolved; and whether it fails more often. The words, with their
intervals, are written to verdict.json in results_dir (results/judge), with a picture, verdict.png and verdict.svg, and
a report unless report=false; verdicts/ keeps those of every question. It takes 20 minutes for each candidate, of which
the last two begin no training: minutes=N, or minutes=null for as long as it needs. Stop it however you like: the same
command goes on.

optimizer.KEY=VALUE and baseline.KEY=VALUE set options of one side; every other KEY=VALUE, such as task.steps=200 or
sweep.search.num_trials=16, holds for both.

Exit code 0: there is a verdict, whatever it says; 1: a trial failed; 2: a mistake on this line.
"""


@stoppable
def main(args: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    if not args or {"--help", "-h"} & set(args):
        print(USAGE)
        return 0 if args else 2
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        if "--schema" in args:
            return _print_schema()
        admit_own_files(Path.cwd())
        check_words(args, ("--self", "--schema"))
        check_choices(args)
        return _judge(args)
    except JobFailedError as error:
        return tell_error(str(error), 1)
    except Exception as error:
        if not is_mistake(error):
            raise
        return tell_error(explain(error, args), 2)


def _print_schema() -> int:
    from bench.analysis.judged import Verdict

    print(json.dumps(Verdict.model_json_schema(), indent=1))
    return 0


def _judge(args: Sequence[str]) -> int:
    from bench.judge.judge import Judge  # late: torch and matplotlib take seconds
    from bench.judge.question import parse_questions
    from bench.judge.terminal import print_words

    console = Console()
    judges = [Judge(question) for question in parse_questions(args)]  # all of them, ahead of any training
    verdicts = [_answer(judge, console) for judge in judges]
    if len(verdicts) > 1:
        print_words(verdicts, console)
    question = judges[0].question
    if question.report and not question.is_self:
        from bench.report import write_report

        report = write_report([question.results_dir], question.results_dir / "report", baseline=judges[0].baseline_name)
        print(f"report: {report}")
    return 0


def _answer(judge: "Judge", console: Console) -> "Verdict":
    """Judge one candidate, tell, and write its files."""
    from bench.judge.picture import write_picture
    from bench.judge.terminal import print_look, print_question, print_verdict
    from bench.judge.verdict import write_verdict
    from bench.runs.folders import KEPT

    results_dir = judge.question.results_dir
    print_question(judge, console)
    for progress in judge.look():
        print_look(progress, console)
    verdict = judge.conclude()
    path = write_verdict(verdict, results_dir, judge.name)
    print_verdict(verdict, judge, console)
    print(f"verdict: {path}, kept as {KEPT}/{judge.name}.json")
    print(f"picture: {write_picture(verdict, results_dir, judge.name)}")
    return verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
