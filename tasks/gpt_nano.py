"""A decoder-only transformer over the characters of a text, or over the tokens of shards: from tiny to GPT-2's size."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import OptionError
from tasks.base import Batch, Task, data_fingerprint
from tasks.corpora import CORPORA, build_vocabulary, encode, load_corpus
from tasks.options import check_choice, check_int
from tasks.shards import GPT2_VOCABULARY, Windows, load_shards
from tasks.transformer import Block, init_as_gpt2_

HELD_OUT_SHARE = 10
"""One character in so many validates, and as many test."""
EVAL_TOKENS = CHUNK_TOKENS = 8192


class GPT(nn.Module):
    """Token and learned position embeddings, blocks, a last norm and a head, tied to the token embedding or its own."""

    def __init__(
        self, vocabulary_size: int, *, num_layers: int, num_heads: int, width: int, context: int, tied_head: bool
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary_size, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, num_heads, causal=True) for _ in range(num_layers)))
        self.norm = nn.RMSNorm(width)
        self.head = None if tied_head else nn.Linear(width, vocabulary_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, vocabulary] of the token after each of `tokens` [B, T], T at most the context."""
        x = self.token(tokens) + self.position.weight[: tokens.shape[-1]]
        x = self.norm(self.blocks(x))
        return F.linear(x, self.token.weight) if self.head is None else self.head(x)


class GPTTask(Task):
    """Predict the next character of a text, or the next of GPT-2's tokens; the loss is in nats per character or token.

    The last tenth of the characters validates (as nanoGPT's does), the tenth before it tests, the rest trains. Windows
    of `val` and `test` do not overlap (what does not fill the last one is left out); a training example is a window at
    any position of the training split.

    Args:
        data: `python_docs`, `tiny_shakespeare` or `text` (see `tasks.corpora.load_corpus`), or `shards` of GPT-2's
            tokens (see `tasks.shards`).
        path: The file for `text`, the folder for `shards`, else None.
        num_layers: Transformer blocks.
        num_heads: Attention heads; divides `width`.
        width: Size of the residual stream.
        context: Characters or tokens in a window.
        tied_head: Use the token embedding as the head.
        batch_size: Windows per batch.

    Attributes:
        tokens: int64 tokens of each split, where it is a text.
        index_device: the CPU, where shards are read; else there is no such attribute, and indices go to the device.
    """

    def __init__(
        self,
        *,
        data: str,
        path: str | None,
        num_layers: int,
        num_heads: int,
        width: int,
        context: int,
        tied_head: bool,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__(batch_size=batch_size, device=device)
        check_int("num_layers", num_layers, 1, 256)
        check_int("num_heads", num_heads, 1, 256)
        check_int("width", width, 1, 16384)
        check_int("context", context, 1, 16384)
        check_choice("tied_head", tied_head, (True, False))
        if width % num_heads:
            raise OptionError("num_heads", num_heads, f"does not divide task.width={width}: choose one that does")
        self.num_layers, self.num_heads, self.width = num_layers, num_heads, width
        self.context, self.tied_head = context, tied_head
        check_choice("data", data, (*CORPORA, "shards"))
        if data == "shards":
            self._load_shards(path)
        else:
            self._load_text(load_corpus(data, path))
        self.num_eval = max(1, EVAL_TOKENS // context)
        self.eval_chunk = max(1, CHUNK_TOKENS // context)

    def _load_shards(self, path: str | None) -> None:
        shards, fingerprint = load_shards(path)
        self.vocabulary_size = GPT2_VOCABULARY
        size = self.context + 1
        windows = {split: Windows(parts, size, self._stride(split)) for split, parts in shards.items()}
        self.num_train, self.num_val, self.num_test = (len(windows[split]) for split in ("train", "val", "test"))
        if not (self.num_train and self.num_val and self.num_test):
            raise ValueError(f"task.path={path!r} has too few tokens for task.context={self.context} in a split")
        self._take = {split: part.take for split, part in windows.items()}
        self.index_device = torch.device("cpu")
        self.fingerprint = data_fingerprint(fingerprint.encode(), context=self.context)

    def _stride(self, split: str) -> int:
        return 1 if split == "train" else self.context

    def _load_text(self, text: str) -> None:
        num_held_out = -(-len(text) // HELD_OUT_SHARE)
        if num_held_out <= self.context:
            raise ValueError(
                f"the corpus has {len(text)} characters, too few for task.context={self.context}: "
                f"give more than {HELD_OUT_SHARE * self.context} or a smaller context"
            )
        vocabulary = build_vocabulary(text)
        tokens = encode(text, vocabulary).to(self.device)
        self.vocabulary_size = len(vocabulary)
        sizes = [len(text) - 2 * num_held_out, num_held_out, num_held_out]
        self.tokens = dict(zip(("train", "test", "val"), torch.split(tokens, sizes), strict=True))
        # Views, not copies: every window of a split is one row, so that a batch is a single gather.
        size = self.context + 1
        windows = {split: part.unfold(0, size, self._stride(split)) for split, part in self.tokens.items()}
        self.num_train, self.num_val, self.num_test = (len(windows[split]) for split in ("train", "val", "test"))
        self._take = {split: partial(_rows, part) for split, part in windows.items()}
        self.fingerprint = data_fingerprint(
            text.encode(), held_out_share=HELD_OUT_SHARE, vocabulary=vocabulary, context=self.context
        )

    def make_model(self) -> nn.Module:
        """The transformer."""
        return GPT(
            self.vocabulary_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            width=self.width,
            context=self.context,
            tied_head=self.tied_head,
        )

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """See `tasks.transformer.init_as_gpt2_`."""
        init_as_gpt2_(name, label, parameter, generator, width=self.width, num_layers=self.num_layers)

    def batch(self, split: str, index: Tensor) -> Batch:
        """Windows of `context` + 1 tokens [B, context + 1]: the loss reads inputs and targets from it."""
        return self._take[split](index).to(self.device)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy of the next character, in nats."""
        assert isinstance(batch, Tensor)
        logits = model(batch[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def _rows(windows: Tensor, index: Tensor) -> Tensor:
    return windows[index.to(windows.device)]


def bigram_loss(task: GPTTask, split: str = "val") -> float:
    """Loss on a split, in nats per character, of a count model fitted on the task's train split.

    p(b | a) = (count(a b) + 1) / (count(a) + vocabulary size), measured on the very predictions of a full evaluation.
    """
    size = task.vocabulary_size
    train, held_out = task.tokens["train"].cpu(), task.tokens[split].cpu()
    held_out = held_out[: (len(held_out) - 1) // task.context * task.context + 1]
    pairs = torch.bincount(train[:-1] * size + train[1:], minlength=size * size).double().view(size, size) + 1.0
    log_probability = pairs.log() - pairs.sum(1, keepdim=True).log()
    return -log_probability[held_out[:-1], held_out[1:]].mean().item()
