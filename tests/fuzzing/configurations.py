"""Any configuration becomes a plan or one line, and nothing is written."""

import os
from functools import cache
from typing import Any

from hydra.errors import HydraException
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from bench.cli.compose import compose, resolve
from bench.cli.explain import check_choices, explain, failed_to_compose
from bench.errors import ConfigError, one_line
from bench.jobs.plan import make_plan
from tests.fuzzing.hostile import TEXTS, mutated, numbers, plausible, texts, usually, values
from tests.fuzzing.properties import Property, make_folder, require_one_line

FOLDER = make_folder("configurations")
FIXED = ["tracker=none", "device=cpu", f"results_dir={FOLDER / 'results'}"]
BASES = (
    ["task=quadratic", "optimizer=adamw"],
    ["task=rosenbrock", "optimizer=sgd", "sweep=seeds"],
    ["task=quadratic", "optimizer=adamuon", "sweep=lr_eps", "schedule=wsd"],
    ["task=quadratic", "optimizer=madam", "sweep=search", "sweep.search.num_trials=4"],
)
FORMS = ["linspace", "logspace", "range", "choice", "geomspace"]


def compose_mapping(overrides: list[str]) -> dict[str, Any]:
    return resolve(compose([*FIXED, *overrides]))


@cache
def bases() -> list[dict[str, Any]]:
    return [compose_mapping(base) for base in BASES]


def plan_or_line(mapping: dict[str, Any]) -> str:
    """The outcome of a resolved configuration."""
    before = os.listdir(os.curdir)
    try:
        make_plan(mapping)
    except ConfigError as error:
        require_one_line(str(error))
        return "refused"
    finally:
        assert os.listdir(os.curdir) == before
        assert not os.listdir(FOLDER)
    return "planned"


def compose_or_line(overrides: list[str]) -> str:
    """The outcome of a command line."""
    try:
        check_choices(overrides)
        mapping = compose_mapping(overrides)
    except Exception as error:
        known = isinstance(error, ConfigError | HydraException | OmegaConfBaseException)
        if not (known or failed_to_compose(error)):
            raise
        require_one_line(one_line(explain(error, overrides)))
        return "not composed"
    return plan_or_line(mapping)


seeds = st.integers(0, 9)
axis = usually(
    st.lists(seeds | st.sampled_from([0.1, 0.2, 0.5]), min_size=1, max_size=4, unique=True)
    | st.tuples(st.sampled_from(["linspace", "logspace"]), st.just(0.1), st.just(0.5), st.integers(1, 4)).map(list)
    | st.tuples(st.just("range"), seeds, seeds).map(list),
    st.lists(values, max_size=4) | st.tuples(st.sampled_from(FORMS), numbers, numbers, numbers).map(list),
)
keys = usually(
    st.sampled_from(["seed", "optimizer.lr", "optimizer.eps", "optimizer.betas.1", "task.target.value"]),
    texts | st.sampled_from(
        ["optimizer.name", "optimizer", "optimizer.name.a", "optimizer.betas.7", "results_dir", "task",
         "optimizer.betas", "optimizer.betas.-1", "optimizer.search_space", "schedule.name", "task.target", "."]
    ),
)  # fmt: skip


@st.composite
def sweeps(draw: Any) -> dict[str, Any]:
    """A sound configuration with a sweep that may not be."""
    axes = draw(st.dictionaries(keys, axis, max_size=3))
    names = st.sampled_from([*axes, "seed"])
    rules = st.dictionaries(names, plausible | values, max_size=2)
    search = st.fixed_dictionaries({"num_trials": usually(st.integers(1, 5), numbers), "seed": usually(seeds, numbers)})
    sweep = {
        "name": draw(usually(st.just("mine"), texts)),
        "axes": axes,
        "optional": draw(usually(st.just(list(axes)), st.lists(names, max_size=2) | values)),
        "exclude": draw(usually(st.lists(rules, max_size=2), values)),
        "search": draw(usually(st.none() | search, values)),
        "fresh_seeds": draw(usually(st.lists(st.integers(10, 20), max_size=3, unique=True), st.lists(numbers))),
    }
    return {**draw(st.sampled_from(bases())), "sweep": sweep}


def _override(key: str, value: Any) -> str:
    return f"{key}={str(value).replace(' ', '')}"


paths = st.sampled_from(
    ["seed", "optimizer.lr", "+optimizer.lrr", "optimizer.betas", "task.steps", "task.batch_size", "clip_norm",
     "device", "optimizer", "task", "sweep", "experiment", "schedule", "tracker", "optimizer.name", "sweep.axes",
     "results_dir", "+sweep.axes.seed", "sweep.fresh_seeds", "sweep.optional", "pack_size", "+x", "~seed",
     "optimizer._target_"]
)  # fmt: skip
small_values = st.sampled_from([text for text in TEXTS if len(text) < 100]) | numbers
command_lines = st.tuples(
    st.sampled_from([base for base in BASES if len(base) < 4]),
    st.lists(
        st.builds(_override, paths, small_values | st.lists(small_values, max_size=3)) | st.text(max_size=12),
        min_size=1,
        max_size=2,
    ),
).map(lambda parts: [*parts[0], *parts[1]])

PROPERTIES = {
    "configuration: changed anywhere": Property(st.deferred(lambda: mutated(bases())), plan_or_line, 30),
    "configuration: sweep": Property(st.deferred(sweeps), plan_or_line, 12),
    "configuration: command line": Property(command_lines, compose_or_line, 3),
}
