"""A run's id is one for all spellings of a value, and for all paths to one corpus."""

import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import strategies as st

from bench.errors import ConfigError
from bench.jobs.plan import make_plan
from tests.fuzzing.configurations import compose_mapping
from tests.fuzzing.properties import Property, make_folder, require_one_line

ROOT = make_folder("identities")
BASE = ["task=quadratic", "optimizer=adamw"]
NUMBERS = {
    "optimizer.lr": [1, 0.01, 0, 1e-3, 0.3],
    "optimizer.weight_decay": [0, 0.1, 1, 1e-5],
    "optimizer.betas.0": [0, 0.5, 0.9],
    "optimizer.eps": [0, 1, 1e-8, 1e-20],
    "clip_norm": [1, 10, 0.1],
    "diverge_factor": [10, 100, 1.5],
    "schedule.warmup_fraction": [0, 1, 0.25],
    "task.loss_scale": [1, 2, 0.5, 1024],
    "task.target.value": [0, 1, 3e-6],
}
SMALL_GPT = ["task=gpt_nano", "task.num_layers=1", "task.width=4", "task.context=4", "task.num_heads=1"]


@cache
def id_of(*overrides: str) -> str:
    return make_plan(compose_mapping(list(overrides))).trials[0].run_id


def spellings(value: float) -> list[str]:
    """Texts that Hydra reads as this number, and one in quotes that is none."""
    texts = [repr(float(value)), f"{value:.6e}", f"{value:.20E}", f"+{value!r}", f"{value * 1000:.9f}e-3"]
    texts += [str(int(value))] * (value == int(value)) + ["-0.0", "-0"] * (value == 0)
    plain = [text for text in texts if float(text) == value]
    return [*plain, f"'{value!r}'"]


def one_value(case: tuple[str, float, str]) -> str:
    """A number is one run in every spelling; text is refused."""
    key, value, text = case
    plain = id_of(*BASE, f"{key}={value!r}")
    if not text.startswith("'"):
        assert id_of(*BASE, f"{key}={text}") == plain, f"{key}={text} is another run than {key}={value!r}"
        return "one run"
    with pytest.raises(ConfigError) as error:
        id_of(*BASE, f"{key}={text}")
    require_one_line(str(error.value))
    return "refused"


@cache
def corpus() -> Path:
    """A text below a folder that has links to the text, to itself and to a folder beside it."""
    (ROOT / "a" / "b").mkdir(parents=True)
    text = ROOT / "a" / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 40)
    (ROOT / "a" / "link.txt").symlink_to(text)
    (ROOT / "a" / "copy.txt").hardlink_to(text)
    (ROOT / "a" / "self").symlink_to(ROOT / "a", target_is_directory=True)
    (ROOT / "beside").symlink_to("a", target_is_directory=True)
    return text


def one_corpus(case: tuple[bool, list[str], str]) -> str:
    """A text is one run by whatever path, through whatever links."""
    relative, steps, name = case
    plain = str(corpus())
    start = os.path.relpath(ROOT) if relative else str(ROOT)
    path = os.path.join(start, *steps, name)
    assert id_of(*SMALL_GPT, "task.data=text", f"task.path={path}") == id_of(
        *SMALL_GPT, "task.data=text", f"task.path={plain}"
    )
    return "relative" if relative else "absolute"


numbers = st.sampled_from([(key, value) for key, values in NUMBERS.items() for value in values])
detours = st.lists(st.sampled_from([".", "self", "b/..", "../beside", "../a", "self/self/."]), max_size=4)
PROPERTIES = {
    "identity: spellings of a value": Property(
        numbers.flatmap(lambda pair: st.tuples(*map(st.just, pair), st.sampled_from(spellings(pair[1])))), one_value, 3
    ),
    "identity: paths of a corpus": Property(
        st.tuples(
            st.booleans(),
            st.tuples(st.sampled_from(["a", "beside"]), detours).map(lambda parts: [parts[0], *parts[1]]),
            st.sampled_from(["text.txt", "link.txt", "copy.txt"]),
        ),
        one_corpus,
        4,
    ),
}
