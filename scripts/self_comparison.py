"""The baseline against itself, tuned anew: how often real equal procedures are called different.

python scripts/self_comparison.py --pairs 25 --out results/reference/self_comparison/mlp.md task=mlp task.steps=300

Each pair is two searches of AdamW with scramblings and tuning seeds of their own, whose best cells are shown on the
same fresh seeds: what `python -m bench.judge --self` does. As the two are alike, the sign of a difference means
nothing; a study draws pairs without replacement and their signs at random. The error of a rate is a jackknife's over
pairs, since studies of the same pairs are not independent.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from common import describe_machine, publish
from judge_simulation import judge_study

from bench.analysis.intervals import MIN_UNITS, mean_interval
from bench.analysis.scores import deviations
from bench.analysis.sequential import LOOKS, SearchPair, candidate_level, classify
from bench.judge.question import Question, compose_arm, parse_question
from bench.judge.searches import pair_searches, plan_searches, run_searches

NO_MARGIN = 1e-9
Rule = Callable[[Sequence[SearchPair]], bool]


def train_pairs(question: Question, num_pairs: int) -> tuple[list[SearchPair], list[str]]:
    """All pairs of searches, and lines on how much searches and seeds differ."""
    (task,) = question.tasks
    mappings = [compose_arm(question, arm, task) for arm in (question.candidate, question.baseline)]
    plans = [plan_searches(mapping, num_pairs) for mapping in mappings]
    arms = [run_searches(plan) for plan in plans]
    between, within = deviations(arms[1])
    margin = plans[0].trials[0].config.task.relevant
    search = plans[0].sweep.search
    assert search is not None
    lines = [
        f"{task}: {num_pairs} pairs of searches, {search.num_trials} trials each, "
        f"{len(plans[0].sweep.fresh_seeds)} fresh seeds, {plans[0].trials[0].config.task.steps} steps.",
        f"Standard deviation of log test losses: {between:.3g} between searches, {within:.3g} between seeds; "
        f"margin {margin:g}.",
    ]
    return pair_searches(*arms, num_pairs), lines


def rate(pairs: Sequence[SearchPair], size: int, rule: Rule, num_studies: int) -> float:
    """The share of studies of `size` pairs that a rule calls different."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(num_studies):
        chosen = rng.choice(len(pairs), size, replace=False)
        hits += rule([_flip(pairs[number]) if rng.random() < 0.5 else pairs[number] for number in chosen])
    return hits / num_studies


def _flip(pair: SearchPair) -> SearchPair:
    difference = None if pair.difference is None else -pair.difference
    return SearchPair(difference, pair.baseline_failed, pair.failed)


def rate_with_error(pairs: Sequence[SearchPair], size: int, rule: Rule, num_studies: int) -> str:
    """The rate, and its standard error by leaving out each pair in turn."""
    if len(pairs) <= size:
        return f"{rate(pairs, min(size, len(pairs)), rule, num_studies):.1%}"
    left_out = [rate([*pairs[:n], *pairs[n + 1 :]], size, rule, num_studies // 10) for n in range(len(pairs))]
    error = np.sqrt((len(pairs) - 1) / len(pairs) * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    return f"{rate(pairs, size, rule, num_studies):.1%} ± {error:.1%}"


def report_rule(pairs: Sequence[SearchPair]) -> bool:
    """What a page says of one comparison: Student's interval over searches at 95 %."""
    differences = np.array([pair.difference for pair in pairs if pair.difference is not None])
    _, low, high, _ = mean_interval([differences])
    return classify(low, high, NO_MARGIN) in ("better", "worse")


def judge_rule(level: float) -> Rule:
    return lambda pairs: judge_study(pairs, NO_MARGIN, level).is_final


def make_lines(question: Question, num_pairs: int, num_studies: int) -> list[str]:
    pairs, lines = train_pairs(question, num_pairs)
    sizes = [size for size in (MIN_UNITS, 5, 10) if size <= num_pairs]
    rows: list[tuple[str, int, Rule]] = [(f"report, {size} searches", size, report_rule) for size in sizes]
    size = max(look for look in LOOKS if look <= num_pairs)
    rows += [
        (f"judge, looks up to {size} searches, level {level:.2%}", size, judge_rule(level))
        for level in (0.05, candidate_level(1))
    ]
    lines += ["", "| rule | called different |", "| --- | --- |"]
    lines += [f"| {name} | {rate_with_error(pairs, size, rule, num_studies)} |" for name, size, rule in rows]
    lines += ["", "| pair | difference of log test losses |", "| --- | --- |"]
    lines += [f"| {number} | {'failed' if pair.difference is None else format(pair.difference, '+.4f')} |"
              for number, pair in enumerate(pairs)]  # fmt: skip
    return [*lines, "", describe_machine("cpu")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options, overrides = parser.parse_known_args()
    question = parse_question(["--self", "device=cpu", "results_dir=results/self_comparison", *overrides])
    publish(make_lines(question, options.pairs, options.studies), options.out)


if __name__ == "__main__":
    main()
