"""From pydantic's errors and YAML's surprises to one clear message."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from xstilts.errors import InputError, nearest

_Model = TypeVar("_Model", bound=BaseModel)

#: What YAML 1.1 makes of unquoted words.
_WORDS = {True: "'yes', 'on' or 'true'", False: "'no', 'off' or 'false'"}


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(
            f"YAML reads the unquoted word {_WORDS[value]} as {str(value).lower()}: put it in "
            "quotes (Norwegian is 'no' with quotes)"
        )
    return str(value) if isinstance(value, int | float) else value


#: A string that YAML may have turned into a boolean or a number.
Text = Annotated[str, BeforeValidator(_text)]


def _name(value: str) -> str:
    """A name that becomes part of a path: it cannot leave the results folder."""
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")
    if not value or set(value) - allowed or value[0] in ".-+" or ".." in value:
        raise ValueError(
            "a name becomes part of a path: expected letters, digits and . _ + - only, beginning "
            "with a letter or digit"
        )
    return value


#: A name that becomes a folder.
Name = Annotated[Text, AfterValidator(_name)]


class Strict(BaseModel):
    """A frozen model without unknown keys, NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read_yaml(path: Path) -> Any:
    """Parse a YAML file safely.

    Raises:
        InputError: If it is missing, not UTF-8 or not YAML; with the line.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except FileNotFoundError as error:
        raise InputError(str(path), "the file does not exist") from error
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"is not UTF-8 (byte {error.start})") from error
    except yaml.YAMLError as error:
        raise InputError(str(path), f"is not valid YAML: {' '.join(str(error).split())}") from error


def refuse_repeated_keys(path: Path) -> None:
    """Check that no mapping of a YAML file has a key twice.

    YAML keeps the last of two equal keys: the other would be lost without a word.

    Raises:
        InputError: If one has; with the line.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    waiting, done = [yaml.compose(text, Loader=yaml.CSafeLoader)], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in done:  # an alias of a node that was looked at
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            _refuse_repeated(node, str(path))
            waiting.extend(value for _, value in node.value)


def _refuse_repeated(node: yaml.MappingNode, file: str) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        name = str(key.value)
        if name in seen and name != "<<":
            line = key.start_mark.line + 1
            raise InputError(
                f"{file}: line {line}",
                f"the key {name!r} stands there twice",
                hint="YAML would keep the last one only: remove one of them",
            )
        seen.add(name)


def _key_path(location: Iterable[str | int]) -> str:
    text = ""
    path = list(location)
    if path[-1:] == ["[key]"]:  # of a mapping whose key is wrong: the mapping is the place
        path = path[:-2]
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not part.startswith(("function-", "tagged-")):
            text += f".{part}" if text else part
    return text


def _fields_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Valid keys of the model that an unknown key's path ends in."""
    current: Any = model
    for part in location[:-1]:
        fields = getattr(current, "model_fields", {})
        annotation = fields[part].annotation if part in fields else current
        current = _model_in(annotation) or current
    return sorted(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None


def parse(model: type[_Model], content: Any, where: str) -> _Model:
    """Validate content against a model.

    Args:
        model: The pydantic model.
        content: What YAML gave.
        where: The file, for the message.

    Raises:
        InputError: On the first fault, with the key's path and, for an unknown key, the nearest
            valid one.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _as_input_error(model, error, where) from None


def _as_input_error(model: type[BaseModel], error: ValidationError, where: str) -> InputError:
    # A list whose items are wrong is also said to be too short.
    faults = [item for item in error.errors() if item["type"] != "too_short"] or error.errors()
    # An unknown key explains best what a missing one beside it means.
    fault = next((item for item in faults if item["type"] == "extra_forbidden"), faults[0])
    key = _key_path(fault["loc"])
    more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
    place = f"{where}: {key}" if key else where
    if fault["type"] == "extra_forbidden":
        valid = _fields_at(model, fault["loc"])
        return InputError(place, f"unknown key{more}", hint=nearest(fault["loc"][-1], valid))
    if fault["type"] == "missing":
        return InputError(place, f"the key is missing{more}")
    found = f"{fault['input']!r}"
    return InputError(place, _plain(fault["msg"]) + more, found=found[:200])


#: Python's words, and a YAML file's.
_PLAIN = {
    "Value error, ": "",
    " after validation": "",
    "Tuple": "list",
    "tuple": "list",
    "valid dictionary or instance of Recipe": "mapping",
    "valid dictionary or instance of Nested": "mapping",
    "valid dictionary": "mapping",
    "Dictionary": "mapping",
}


def _plain(message: str) -> str:
    """Pydantic's message for someone who writes YAML."""
    for words, plain in _PLAIN.items():
        message = message.replace(words, plain)
    return message if message.startswith("YAML") else message[:1].lower() + message[1:]
