"""What every task is: a data set, a plain model, a loss and a validation, written once for one model.

The harness trains either one model with `backward()` or K of them stacked under `torch.vmap`. A task never sees K. What
`vmap` refuses (`.item()`, branching on a tensor's value, `nn.LSTM`) makes its trials train one by one.
"""

import hashlib
import json
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.options import check_int

Batch = Tensor | tuple[Tensor, ...]

MAX_BATCH_SIZE = 2**20


def data_fingerprint(*data: bytes, **options: object) -> str:
    """Identity of a data set: SHA-256, as 64 hex digits, of its bytes and of the options that split and prepare it.

    Args:
        data: Raw bytes; their lengths are hashed too, so moving a byte from one part to the next changes the result.
        options: JSON values, independent of their order.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for part in data:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def init_for_relu_(name: str, label: str, parameter: Tensor, generator: torch.Generator) -> None:
    """Fill one parameter: matrices as He et al. 2015, small heads (an even prediction), zero biases, unit gains."""
    if label == "vector":
        parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    else:
        std = 0.02 if label in ("head", "embedding") else (2.0 / parameter[0].numel()) ** 0.5
        parameter.normal_(0.0, std, generator=generator)


class Task(ABC):
    """Base of all tasks: index sampling, seeded initialisation, chunked evaluation, parameter labels.

    A subclass loads its data onto `device` in its constructor, which takes its own options by keyword, and implements
    `make_model`, `batch` and `loss`. Wrong options raise `ValueError` with one line for the user.

    Three splits that share no example: `train`; `val`, by which curves are drawn, targets are met and hyperparameters
    are chosen; `test`, read once, after a trial's last step, by which optimizers are compared and nothing is chosen.

    Attributes:
        metric_names: What `metrics` measures; `loss` is always among them.
        validation_is_truth: The loss is a closed form and no data stand behind it: `test` reads what `val` reads.
        num_train: Number of training examples that `sample` draws from.
        num_val: Number of validation examples.
        num_test: Number of test examples; not needed where `validation_is_truth`.
        num_eval: Number of validation examples in the fixed subset for evaluations during training, spread evenly.
        eval_chunk: Examples per forward pass of an evaluation, which bounds its memory.
        fingerprint: Identity of the data, part of every run's identity (see `data_fingerprint`).
    """

    metric_names: tuple[str, ...] = ("loss",)
    validation_is_truth = False
    num_train: int
    num_val: int
    num_test: int
    num_eval: int
    eval_chunk: int
    fingerprint: str

    def __init__(self, *, batch_size: int, device: torch.device) -> None:
        check_int("batch_size", batch_size, 1, MAX_BATCH_SIZE)
        self.batch_size = batch_size
        self.device = device

    @abstractmethod
    def make_model(self) -> nn.Module:
        """The model, built on the CPU, with the initial values that its author gave it (see `build_model`)."""

    @abstractmethod
    def batch(self, split: str, index: Tensor) -> Batch:
        """The examples that `index` names, on the task's device: a pure function, also under `torch.vmap` over `index`.

        Args:
            split: `train` with an index from `sample`; `val` or `test` with numbers [B] below the split's size.
            index: int64, example numbers, on any device.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the batch, a scalar, in the precision of the model's parameters."""

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What is measured on a chunk of `val` or `test`, each a scalar mean, by the names in `metric_names`."""
        return {"loss": self.loss(model, batch)}

    def sample(self, generator: torch.Generator) -> Tensor:
        """Index of the next training batch with all of its randomness: int64 [B] on the CPU, drawn with replacement."""
        return torch.randint(self.num_train, (self.batch_size,), generator=generator)

    def build_model(self, generator: torch.Generator) -> nn.Module:
        """A float32 model on the task's device whose values depend on the CPU `generator` and on nothing else.

        It is what `make_model` returns, with its buffers, tied weights and own initialisation; torch's global random
        numbers that this draws on the CPU are seeded by `generator` and put back. Then comes `init_parameter`.
        """
        seed = torch.randint(2**62, (), generator=generator.clone_state()).item()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed))
            model = self.make_model()
        labels = self.param_labels(model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                self.init_parameter(name, labels[name], parameter, generator)
        return model.to(self.device)

    def init_parameter(  # noqa: B027  # may be overridden
        self, name: str, label: str, parameter: Tensor, generator: torch.Generator
    ) -> None:
        """Fill one parameter anew, in place, with `generator`; by default it stays as `make_model` left it."""

    def param_labels(self, model: nn.Module) -> dict[str, str]:
        """Label of each parameter by name: `matrix`, `embedding`, `head` or `vector`.

        Fewer than two axes make a vector, `nn.Embedding` holds embeddings, the module called `head` is the head, and
        all else (convolutions included) is a matrix.
        """
        embeddings = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
        labels = {}
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                labels[name] = "vector"
            elif name in embeddings:
                labels[name] = "embedding"
            else:
                labels[name] = "head" if name.startswith("head.") else "matrix"
        return labels

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str, *, full: bool) -> dict[str, Tensor]:
        """Metrics of a split as float64 scalars, their names led by its own: `val_loss`, `test_accuracy`.

        Means over the whole split if `full`, else over a fixed subset of `num_eval` examples. Works under `torch.vmap`
        over the model's parameters. Memory is bounded by `eval_chunk`. A mean of chunks is a mean of examples to
        float64's rounding, whatever precision the model computes in.

        Args:
            model: A model as `build_model` gives it.
            split: `val` or `test`.
            full: Whether to read the whole split.
        """
        source = "val" if self.validation_is_truth else split
        size = self.num_val if source == "val" else self.num_test
        num_examples = size if full else min(self.num_eval, size)
        examples = torch.arange(num_examples, device=self.device) * size // num_examples
        totals = dict.fromkeys(self.metric_names, torch.zeros((), dtype=torch.float64, device=self.device))
        for index in torch.split(examples, self.eval_chunk):
            measured = self.metrics(model, self.batch(source, index))
            assert measured.keys() == totals.keys(), f"metric_names are {self.metric_names}, metrics {tuple(measured)}"
            share = len(index) / num_examples
            totals = {name: total + measured[name].double() * share for name, total in totals.items()}
        return {f"{split}_{name}": total for name, total in totals.items()}


class ClassificationTask(Task):
    """A task whose batches are (inputs, labels int64 [B]) and whose model gives logits [B, num_classes]."""

    metric_names = ("loss", "accuracy")

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats."""
        inputs, labels = batch
        return F.cross_entropy(model(inputs), labels)

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`loss` in nats and `accuracy` within [0, 1]."""
        inputs, labels = batch
        logits = model(inputs)
        hits = (logits.argmax(-1) == labels).double()  # a mean in the logits' bfloat16 would have eight bits
        return {"loss": F.cross_entropy(logits, labels), "accuracy": hits.mean()}
