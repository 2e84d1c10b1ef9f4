"""The language model's data: corpora, vocabulary, windows and the count model."""

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.corpora import OTHER_CHARACTER, build_vocabulary, encode, load_corpus
from tasks.gpt_nano import GPTTask, bigram_loss

TEXT = "the quick brown fox jumps over the lazy dog\n" * 40


def make_gpt(path: Path | None = None, **changes: Any) -> GPTTask:
    options: dict[str, Any] = {
        "data": "text" if path else "python_docs",
        "path": str(path) if path else None,
        "num_layers": 2,
        "num_heads": 2,
        "width": 16,
        "context": 8,
        "tied_head": False,
        "batch_size": 4,
    }
    return GPTTask(**(options | changes), device=torch.device("cpu"))


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_python_docs_are_the_topics_sorted_by_key_and_joined() -> None:
    from pydoc_data.topics import topics

    text = load_corpus("python_docs", None)
    expected = hashlib.sha256()
    for key in sorted(topics):
        expected.update(topics[key].encode())
    assert hashlib.sha256(text.encode()).hexdigest() == expected.hexdigest()
    assert len(text) > 400_000


def test_tiny_shakespeare_without_a_network_is_one_line_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens: a real refused connection
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"^cannot download .*task\.data=python_docs") as caught:
        load_corpus("tiny_shakespeare", None)
    assert "\n" not in str(caught.value)


def test_a_download_with_another_checksum_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tasks import corpora

    wrong = tmp_path / "input.txt"
    wrong.write_text("not Shakespeare")
    monkeypatch.setattr(corpora, "TINY_SHAKESPEARE_URL", wrong.as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"^cannot download "):
        load_corpus("tiny_shakespeare", None)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"abc\x80", b"\xed\xa0\x80"])
def test_text_that_is_not_utf8_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "binary"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not UTF-8 text: byte") as caught:
        load_corpus("text", str(path))
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_character_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "marked.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert load_corpus("text", str(path)) == TEXT


@pytest.mark.parametrize("length", [0, 1, 8, 80])
def test_empty_or_too_short_corpora_are_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "short"
    path.write_text("a" * length)
    with pytest.raises(ValueError, match=f"the corpus has {length} characters, too few for task.context=8"):
        make_gpt(path)


@pytest.mark.parametrize("context", [1, 7, 8, 64])
def test_the_shortest_corpus_that_the_message_allows_works(tmp_path: Path, context: int) -> None:
    path = tmp_path / "shortest"
    path.write_text("a" * 10 * context)
    with pytest.raises(ValueError, match=f"give more than {10 * context} or") as caught:
        make_gpt(path, context=context)
    assert "\n" not in str(caught.value)
    path.write_text("a" * (10 * context + 1))
    task = make_gpt(path, context=context)
    assert (task.num_val, task.num_test) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "python_doc"}, r"data='python_doc': expected one of python_docs, "),
        ({"data": "text"}, r"path=None: expected"),
        ({"data": "text", "path": "/no/such/file"}, r"path='/no/such/file': does not exist"),
        ({"data": "text", "path": "/tmp"}, r"path='/tmp': does not exist"),
        ({"data": "text", "path": "a\0b"}, r"path='a\\x00b': does not exist"),
        ({"data": "text", "path": "x" * 5000}, r"path='x{79}…': does not exist"),
        ({"data": "python_docs", "path": "file.txt"}, r"path='file.txt': not used with task\.data=python_docs"),
        ({"num_heads": 3}, r"num_heads=3: does not divide task\.width=16"),
        ({"num_heads": 0}, r"num_heads=0: expected"),
        ({"width": 0}, r"width=0: expected"),
        ({"width": "wide"}, r"width='wide': expected"),
        ({"context": 10**9}, r"context=1000000000: expected"),
        ({"context": float("nan")}, r"context=nan: expected"),
        ({"num_layers": 1e6}, r"num_layers=1000000.0: expected"),
        ({"tied_head": "yes"}, r"tied_head='yes': expected"),
        ({"tied_head": 1}, r"tied_head=1: expected"),
    ],
)
def test_bad_options_are_one_line_naming_key_and_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        make_gpt(**changes)
    assert "\n" not in str(caught.value)


def test_vocabulary_is_the_sorted_characters_and_encoding_is_exact() -> None:
    vocabulary = build_vocabulary("hello\n")
    assert vocabulary == "\nehlo"
    assert "".join(vocabulary[token] for token in encode("hello\n", vocabulary)) == "hello\n"


def test_rare_characters_beyond_256_share_one_token() -> None:
    common = [chr(0x4E00 + number) for number in range(255)]
    rare = [chr(0x6000 + number) for number in range(100)]
    text = "".join(common) * 2 + "".join(rare)
    vocabulary = build_vocabulary(text)
    assert vocabulary == "".join(sorted([*common, OTHER_CHARACTER]))
    tokens = encode(text, vocabulary)
    assert tokens[-100:].unique().tolist() == [vocabulary.index(OTHER_CHARACTER)]
    assert "".join(vocabulary[token] for token in tokens[:510]) == text[:510]


def test_splits_are_by_position_and_windows_follow_the_text(text_file: Path) -> None:
    task = make_gpt(text_file)
    joined = torch.cat([task.tokens["train"], task.tokens["test"], task.tokens["val"]])
    assert torch.equal(joined, encode(TEXT, build_vocabulary(TEXT)))
    assert len(task.tokens["val"]) == len(task.tokens["test"]) == len(TEXT) // 10
    window = task.batch("train", torch.tensor([5]))
    assert isinstance(window, Tensor)
    assert torch.equal(window[0], joined[5:14])


@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_windows_predict_every_character_once(text_file: Path, split: str) -> None:
    task = make_gpt(text_file)
    windows = task.batch(split, torch.arange(task.num_val if split == "val" else task.num_test))
    assert isinstance(windows, Tensor)
    targets = windows[:, 1:].flatten()
    assert torch.equal(targets, task.tokens[split][1 : len(targets) + 1])
    assert len(task.tokens[split]) - 1 - len(targets) < task.context


def test_model_does_not_look_ahead(text_file: Path) -> None:
    task = make_gpt(text_file)
    model = task.build_model(torch.Generator().manual_seed(0))
    tokens = torch.randint(task.vocabulary_size, (2, 8), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % task.vocabulary_size
    torch.testing.assert_close(model(tokens)[:, :5], model(changed)[:, :5], rtol=0, atol=1e-6)
    assert not torch.allclose(model(tokens)[:, 5:], model(changed)[:, 5:])


@pytest.mark.parametrize("tied_head", [True, False])
def test_initial_loss_is_that_of_an_even_guess_with_either_head(text_file: Path, tied_head: bool) -> None:
    task = make_gpt(text_file, tied_head=tied_head)
    model = task.build_model(torch.Generator().manual_seed(0))
    assert task.evaluate(model, "val", full=True)["val_loss"].item() == pytest.approx(
        math.log(task.vocabulary_size), abs=0.5
    )
    assert ("head" in task.param_labels(model).values()) != tied_head


def test_initial_weights_follow_the_width_and_residual_projections_are_smaller() -> None:
    task = make_gpt(width=48)
    parameters = dict(task.build_model(torch.Generator().manual_seed(0)).named_parameters())
    assert parameters["blocks.0.mlp_in.weight"].std().item() == pytest.approx(0.08, rel=0.05)
    assert parameters["blocks.0.mlp_out.weight"].std().item() == pytest.approx(0.04, rel=0.05)


def test_fingerprint_changes_with_the_text_and_the_context(text_file: Path) -> None:
    before = make_gpt(text_file).fingerprint
    assert make_gpt(text_file, width=32).fingerprint == before
    assert make_gpt(text_file, context=16).fingerprint != before
    text_file.write_text(TEXT + "!")
    assert make_gpt(text_file).fingerprint != before


def test_bigram_loss_equals_a_count_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "ab"
    path.write_text("ab" * 45 + "aababbabaa")
    task = make_gpt(path, context=4)
    count = {("a", "b"): 40, ("b", "a"): 39, ("a", "a"): 0, ("b", "b"): 0}
    pairs = list(zip("aababbaba", "ababbabaa", strict=True))[: 2 * task.context]
    expected = 0.0
    for first, second in pairs:
        total = count[first, "a"] + count[first, "b"]
        expected -= math.log((count[first, second] + 1) / (total + 2))
    assert bigram_loss(task) == pytest.approx(expected / len(pairs), rel=1e-12)


@pytest.mark.slow
def test_a_short_training_beats_the_bigram_model() -> None:
    task = make_gpt(num_layers=3, num_heads=4, width=64, context=64, batch_size=16)
    model = task.build_model(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        task.loss(model, task.batch("train", task.sample(generator))).backward()
        optimizer.step()
    assert task.evaluate(model, "val", full=True)["val_loss"].item() < bigram_loss(task)
