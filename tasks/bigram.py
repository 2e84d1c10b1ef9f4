"""Softmax regression from each character to the next: convex, with heavy-tailed classes, and a known optimum."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import Batch, Task, data_fingerprint
from tasks.corpora import build_vocabulary, encode, load_corpus


class BigramTable(nn.Module):
    """A linear map from a one-hot character to logits, `table` [character, next character]."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(vocabulary_size, vocabulary_size))

    def forward(self, characters: Tensor) -> Tensor:
        """Logits [B, V] of the character after each of `characters` [B]."""
        return F.embedding(characters, self.table)


class BigramTask(Task):
    """Minimise the cross-entropy of all neighbouring characters of a text, less its optimum.

    The optimum is the empirical conditional entropy H(next | character), which the logarithms of the counts reach. The
    objective is convex, yet classes are as frequent as characters in a text: the rare ones get tiny gradients, where
    SGD is far behind Adam and sign methods (Kunstner et al. 2024, arXiv 2402.19449). Batches are random pairs; the
    validation takes all pairs with their frequencies, so it is the objective itself and leaves nothing to a test.

    Args:
        data: The text, as in `gpt_nano`.
        path: The file for `data=text`, else None.
        batch_size: Pairs per batch.

    Attributes:
        entropy: The optimum, in nats.
        next_counts: How often each character follows another one, float64 [vocabulary].
    """

    validation_is_truth = True
    num_val = num_eval = eval_chunk = 1

    def __init__(self, *, data: str, path: str | None, batch_size: int, device: torch.device) -> None:
        super().__init__(batch_size=batch_size, device=device)
        text = load_corpus(data, path)
        if len(text) < 2:
            raise ValueError(f"the corpus has {len(text)} characters, and a pair takes two")
        vocabulary = build_vocabulary(text)
        tokens = encode(text, vocabulary)
        size = self.vocabulary_size = len(vocabulary)
        self.num_train = len(tokens) - 1
        self._pairs = torch.stack([tokens[:-1], tokens[1:]], dim=1).to(device)
        counts = torch.bincount(tokens[:-1] * size + tokens[1:], minlength=size * size).double().view(size, size)
        self._frequency = (counts / counts.sum()).to(device)
        share = counts / counts.sum(1, keepdim=True).clamp(min=1.0)
        self.next_counts = counts.sum(0)
        self.entropy = -torch.xlogy(counts / counts.sum(), share).sum().item()
        self.fingerprint = data_fingerprint(text.encode(), vocabulary=vocabulary)

    def make_model(self) -> nn.Module:
        """The table."""
        return BigramTable(self.vocabulary_size)

    def init_parameter(self, name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
        """Normal and small: an even prediction."""
        parameter.normal_(0.0, 0.02, generator=generator)

    def batch(self, split: str, index: Tensor) -> Batch:
        """Pairs of neighbouring characters [B, 2]; for validation the numbers are ignored, since all pairs count."""
        return self._pairs[index.to(self.device)]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy of the pairs less the optimum, in nats; of a batch it may be negative."""
        assert isinstance(batch, Tensor)
        return F.cross_entropy(model(batch[:, 0]), batch[:, 1]) - self.entropy

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`loss` over all pairs of the text, in float64."""
        logits = model(torch.arange(self.vocabulary_size, device=self.device)).double()
        return {"loss": -(self._frequency * logits.log_softmax(1)).sum() - self.entropy}
