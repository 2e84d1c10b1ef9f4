"""Records that pydantic checks, and what it refuses told as key, value and what is allowed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import ErrorDetails, PydanticCustomError

from bench.errors import ConfigError, UnknownKeyError, did_you_mean, shorten

EXPECTED = {
    "missing": "this key is required",
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "dict_type": "expected a mapping of keys to values",
    "model_type": "expected a mapping of keys to values",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "finite_number": "expected a finite number",
}


class Strict(BaseModel):
    """A frozen record that converts nothing and refuses keys that it does not have."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Section(Strict):
    """A part of the configuration, by the keys as they stand in yaml."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=False)


Record = TypeVar("Record", bound=BaseModel)


Documentation = object()
"""Marks a key that no training reads: it is no part of a run's identity."""


class OpenSection(Section):
    """A section whose other keys are the options of the class or function that `_target_` names."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Any]

    class_path: Annotated[str, Field(alias="_target_")]

    @property
    def options(self) -> Mapping[str, Any]:
        """The keys that go to the class or function as they stand."""
        return self.__pydantic_extra__


def allowed(text: str) -> WrapValidator:
    """Annotates a type with what it allows: the text of the error for every value that it refuses."""

    def check(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("allowed", "expected {text}", {"text": text}) from None

    return WrapValidator(check)


def check(model: type[Record], mapping: Any, path: str = "") -> Record:
    """The record that a section of the configuration describes.

    Args:
        model: the type of the record.
        mapping: the section's plain values.
        path: the section's dotted place in the configuration, empty at the top.

    Raises:
        ConfigError: one line naming key, value and what is allowed.
    """
    try:
        return model.model_validate(mapping)
    except ValidationError as error:
        raise _config_error(error.errors(include_url=False)[0], model, path) from error


def _config_error(fault: ErrorDetails, model: type[BaseModel], path: str) -> ConfigError:
    if isinstance(known := fault.get("ctx", {}).get("error"), ConfigError):
        return known
    key = ".".join(filter(None, [path, *map(str, fault["loc"])]))
    if fault["type"] == "extra_forbidden":
        return UnknownKeyError(key, fault["input"], known_keys(model, fault["loc"][:-1]))
    value = None if fault["type"] == "missing" else fault["input"]
    return ConfigError(key, value, EXPECTED.get(fault["type"], fault["msg"]))


def tell_faults(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """One line per fault of a document that is no `model`: key, value and what is allowed."""
    for fault in error.errors(include_url=False):
        key = shorten(".".join(map(str, fault["loc"])))
        if fault["type"] == "missing":
            yield f"{key}: missing"
        elif fault["type"] == "extra_forbidden":
            hint = did_you_mean(str(fault["loc"][-1]), known_keys(model, fault["loc"][:-1]))
            yield f"{key}={shorten(fault['input'])}: no such key{hint}"
        else:
            yield f"{key}={shorten(fault['input'])}: {EXPECTED.get(fault['type'], fault['msg'])}"


def known_keys(model: type[BaseModel], path: tuple[int | str, ...] = ()) -> list[str]:
    """The keys of the record at `path` inside a `model`."""
    fields: Mapping[str, Any] = {field.alias or name: field for name, field in model.model_fields.items()}
    if not path:
        return list(fields)
    if isinstance(path[0], int):  # a position in a list of them
        return known_keys(model, path[1:])
    annotation = fields[str(path[0])].annotation if str(path[0]) in fields else None
    inner = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
    return next((known_keys(kind, path[1:]) for kind in inner if issubclass(kind, BaseModel)), [])
