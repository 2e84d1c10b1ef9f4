"""An optimizer's section of the configuration: its class, its hyperparameters, and what it is put around."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from bench.config.fields import Name
from bench.config.search import MAX_RANGES, Range
from bench.config.validation import Documentation, OpenSection, Section, allowed, check
from bench.errors import ConfigError

Label = Literal["matrix", "embedding", "head", "vector"]
Factor = Annotated[float, Field(ge=0), allowed("a factor, a finite number of at least 0")]


class GroupConfig(Section):
    """Factors on the lr and the weight decay of some parameters.

    Attributes:
        match: a pattern over a parameter's whole name, as of files: `*.head.*`, `layers.[0-3].*`.
    """

    match: Annotated[str, Field(min_length=1), allowed("a pattern of parameter names such as *.head.*")]
    lr: Factor = 1.0
    weight_decay: Factor = 1.0

    @model_validator(mode="after")
    def _check_factors(self) -> Self:
        if self.model_fields_set == {"match"}:
            raise PydanticCustomError("allowed", "expected lr or weight_decay, a factor on it")
        return self


class OptimizerConfig(OpenSection):
    """An optimizer class with its hyperparameters.

    Attributes:
        labels: the parameter labels that it takes; all others go to `rest`. Empty: it takes every parameter.
        rest: the optimizer of all other parameters; it has no name of its own.
        base: the optimizer that this one is put around, for wrappers (see `optimizers.wrapper`). Its `lr` stands at the
            wrapper, where sweeps and searches find that of every optimizer.
        groups: factors by the names of parameters, whichever optimizer takes them; the first match wins.
        modifiers: what is put around its rule, see `optimizers.modifiers`.
        path: its dotted place in the configuration.
    """

    name: Name = ""
    labels: Annotated[tuple[Label, ...], Field(strict=False), allowed("a list of matrix, embedding, head, vector")] = ()
    rest: "OptimizerConfig | None" = None
    base: "OptimizerConfig | None" = None
    groups: Annotated[tuple[GroupConfig, ...], Field(strict=False)] = ()
    modifiers: Annotated[tuple[str, ...], Field(strict=False), allowed("a list of names")] = ()
    needs_closure: bool = False
    divergence_hint: Annotated[str, Documentation] = ""
    paper: Annotated[str, Documentation] = ""
    eps_convention: Annotated[str, Documentation] = ""
    search_space: Annotated[dict[str, Range] | None, Field(max_length=MAX_RANGES), Documentation] = None
    _path: str = PrivateAttr("optimizer")
    _lr: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_inner(self) -> Self:
        if bool(self.labels) != bool(self.rest):
            raise PydanticCustomError("allowed", "labels and rest belong together: give both or neither")
        if any(inner.groups for inner in (self.rest, self.base) if inner is not None):
            raise PydanticCustomError("allowed", "rest and base take no groups: those of the optimizer hold for all")
        if self.base is not None:
            self._check_base(self.base)
        self._place("optimizer")
        return self

    def _check_base(self, base: "OptimizerConfig") -> None:
        if self.modifiers:
            text = "they go around a rule, not around a wrapper: write optimizer.base.modifiers"
            raise ConfigError("optimizer.modifiers", list(self.modifiers), text)
        if self.labels:
            raise ConfigError("optimizer.labels", list(self.labels), "with a base, labels and rest stand inside of it")
        if "lr" in base.options:
            raise PydanticCustomError("allowed", "the lr of base stands at the optimizer itself")
        if any(part.base is not None or part.needs_closure for part in base.parts):
            raise PydanticCustomError("allowed", "base steps without a closure, and has no base of its own")

    def _place(self, path: str) -> None:
        self._path = path
        for name, inner in (("rest", self.rest), ("base", self.base)):
            if inner is not None:
                inner._place(f"{path}.{name}")
        if self.base is not None:
            self.base._lr = {name: value for name, value in self.options.items() if name == "lr"}

    @property
    def parts(self) -> Iterator["OptimizerConfig"]:
        """Itself and all optimizers inside of it."""
        yield self
        for inner in (self.base, self.rest):
            if inner is not None:
                yield from inner.parts

    @property
    def path(self) -> str:
        return self._path

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """What the class is called with; at a wrapper, the lr is for its base."""
        return {**self.options, **self._lr}


def check_named(optimizer: OptimizerConfig) -> OptimizerConfig:
    """Raises ConfigError where an optimizer has no name."""
    if not optimizer.name:
        raise ConfigError("optimizer.name", None, "this key is required")
    return optimizer


def parse_optimizer(mapping: Any) -> OptimizerConfig:
    """The optimizer of a configuration. Raises ConfigError."""
    return check_named(check(OptimizerConfig, mapping, "optimizer"))
