"""Texts for character-level language models, and their tokens."""

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from bench.errors import OptionError
from tasks.download import fetch
from tasks.options import check_choice, check_path

CORPORA = ("python_docs", "tiny_shakespeare", "text")
TINY_SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

MAX_CORPUS_BYTES = 256 * 2**20
MAX_VOCABULARY = 256
OTHER_CHARACTER = "\N{REPLACEMENT CHARACTER}"


def load_corpus(data: str, path: str | None) -> str:
    """The text that `task.data` names.

    Args:
        data: `python_docs`, the language reference inside every CPython (its topics sorted by key and joined; they
            quote each other: one window of 65 characters in twelve is also found elsewhere, word for word);
            `tiny_shakespeare`, 1,115,394 characters, downloaded once; `text`, any UTF-8 file.
        path: The file for `text`; must be None for the others.

    Raises:
        ValueError: an unknown corpus, a missing or superfluous path, a file that is not UTF-8 or more than can be held
            in memory as tokens, no network.
    """
    check_choice("data", data, CORPORA)
    if data == "text":
        file = check_path("path", path, folder_allowed=False)
        if (size := file.stat().st_size) > MAX_CORPUS_BYTES:
            raise OptionError("path", path, f"has {size} bytes: give a text of at most {MAX_CORPUS_BYTES}")
        return _decode(file.read_bytes(), file)
    if path is not None:
        raise OptionError("path", path, f"not used with task.data={data}: did you mean task.data=text?")
    if data == "python_docs":
        from pydoc_data.topics import topics  # late: half a megabyte that other corpora need not load

        return "".join(topics[key] for key in sorted(topics))
    instead = "task.data=python_docs or task.data=text task.path=FILE"
    file = fetch(TINY_SHAKESPEARE_URL, f"sha256:{TINY_SHAKESPEARE_SHA256}", instead)
    return _decode(file.read_bytes(), file)


def _decode(data: bytes, file: Path) -> str:
    try:
        return data.decode("utf-8-sig")  # drops a byte-order mark, which is no character of the text
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: byte {error.start} is invalid; convert it first") from error


def build_vocabulary(text: str) -> str:
    """The sorted characters of `text`, which are the tokens in order.

    A corpus with more than 256 distinct characters keeps its 255 most frequent ones (of equally frequent ones the lower
    code point), and every other character is read as U+FFFD: rare ones cannot be learned, yet widen the head for all.
    """
    counts = Counter(text)
    if len(counts) <= MAX_VOCABULARY:
        return "".join(sorted(counts))
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    return "".join(sorted({*by_frequency[: MAX_VOCABULARY - 1], OTHER_CHARACTER}))


def encode(text: str, vocabulary: str) -> Tensor:
    """Token numbers of `text`, int64 [len(text)]; characters outside the vocabulary become U+FFFD."""
    table = {character: token for token, character in enumerate(vocabulary)}
    other = table.get(OTHER_CHARACTER, -1)
    return torch.tensor([table.get(character, other) for character in text], dtype=torch.int64)
