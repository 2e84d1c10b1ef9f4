"""Records that pydantic checks, and what it refuses told as key, value and what is allowed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from bench.errors import did_you_mean, shorten

EXPECTED = {
    "missing": "missing",
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "list_type": "expected a list",
    "finite_number": "expected a finite number",
}


class Strict(BaseModel):
    """A frozen record that converts nothing and refuses keys that it does not have."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def allowed(text: str) -> WrapValidator:
    """Annotates a type with what it allows: the text of the error for every value that it refuses."""

    def check(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("allowed", "expected {text}", {"text": text}) from None

    return WrapValidator(check)


def tell_faults(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """One line per fault of a document that is no `model`: key, value and what is allowed."""
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "missing":
            yield f"{shorten(key)}: missing"
        elif fault["type"] == "extra_forbidden":
            known = known_keys(model, fault["loc"][:-1])
            yield f"{shorten(key)}={shorten(fault['input'])}: no such key{did_you_mean(str(fault['loc'][-1]), known)}"
        else:
            yield f"{shorten(key)}={shorten(fault['input'])}: {EXPECTED.get(fault['type'], fault['msg'])}"


def known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys of the record at `path` inside a `model`."""
    for part in path:
        kinds = [get_args(field.annotation) or (field.annotation,) for key, field in _fields(model) if key == part]
        inner = [kind for kind in (kinds[0] if kinds else ()) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return [key for key, _ in _fields(model)]


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    fields: Mapping[str, Any] = model.model_fields
    yield from ((field.alias or name, field) for name, field in fields.items())
