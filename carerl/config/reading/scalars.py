"""Values as they were typed: YAML of which every scalar without quotes keeps its own text.

What a scalar means is decided by the type of the setting that it is for, and not by its looks: ``0042``, ``1e5``,
``1.10`` and ``no`` are text where the setting is text. Numbers are written in base ten.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import unicodedata
from collections.abc import Iterator
from typing import Any

import yaml

NULL = ("null", "Null", "NULL")
TRUE, FALSE = ("true", "yes", "on"), ("false", "no", "off")
LARGEST = 2**63 - 1  # of a whole number
MOST_VALUES = 100_000  # in a file; aliases make a short file long
_WHOLE = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
_REAL = re.compile(r"[-+]?([0-9]+(_[0-9]+)*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_ENDLESS = re.compile(r"[-+]?\.?(inf|nan)", re.IGNORECASE)
_GROUPED = re.compile(r"[-+]?[0-9]{1,3}(,[0-9]{3})+")
_BASED = re.compile(r"0[xXoObB][0-9a-fA-F]+")


class Plain(str):
    """A scalar without quotes, as it was typed."""

    __slots__ = ()

    @property
    def value(self) -> Any:
        """What it means where no type says more: nothing, a truth value, a number in base ten, or text."""
        text = str(self)
        if text in ("", "~", *NULL):
            return None
        for found in (truth(text), whole_number(text), real_number(text)):
            if found is not None:
                return found
        return text


class Referred(Plain):
    """The text that ``${...}`` stood for: of another setting, or of an environment variable. ``source`` is what was
    typed."""

    __slots__ = ("source",)
    source: str

    def __new__(cls, text: str, source: str) -> Referred:
        made = super().__new__(cls, text)
        made.source = source
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.source)


def native(value: Any) -> Any:
    """Replaces every :class:`Plain` in a value by what it means."""
    if isinstance(value, Plain):
        return value.value
    if isinstance(value, dict):
        return {key: native(item) for key, item in value.items()}
    return [native(item) for item in value] if isinstance(value, list) else value


def truth(text: str) -> bool | None:
    """Reads true or false; returns None for any other text."""
    return True if text.lower() in TRUE else False if text.lower() in FALSE else None


def whole_number(text: str) -> int | None:
    """Reads a whole number in base ten; leading zeros and ``_`` between digits are allowed. None for any other text.

    >>> [whole_number(text) for text in ("0100", "1_000", "-3", "0x10", "1:30", "1e3", "2.0")]
    [100, 1000, -3, None, None, None, None]
    """
    text = text.strip()
    if not _WHOLE.fullmatch(text) or len(text) > 40 or abs(found := int(text)) > LARGEST:
        return None
    return found


def real_number(text: str) -> float | None:
    """Reads a number in base ten with a point, an exponent, both or neither; returns None for any other text."""
    text = text.strip()
    if _REAL.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _ENDLESS.fullmatch(text) else None


def meant_number(text: str) -> int | None:
    """Guesses the whole number that a text stands for: ``1e3``, ``100.0``, ``0x10``, ``1,000``, digits of another
    script. Returns None if it cannot."""
    text = unicodedata.normalize("NFKC", text).strip()
    if text.lstrip("+-").isdecimal() and not text.isascii():  # digits of another script
        return int(text)
    if _GROUPED.fullmatch(text):
        return int(text.replace(",", ""))
    try:
        if _BASED.fullmatch(text):
            return int(text, 0)
    except ValueError:  # a digit that the base does not have
        return None
    real = real_number(text)
    return int(real) if real is not None and abs(real) < 1e15 and real == int(real) else None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with scalars as they were typed; duplicate keys are refused."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.style is None and node.tag in _IMPLICIT:
            return Plain(node.value)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value}", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"
_IMPLICIT = {  # what the resolver finds where no tag is written
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "value")
}


def read_yaml_text(text: str) -> Any:
    """Reads the content of a file. Raises yaml.YAMLError, or ValueError for content that refers to itself or has more
    than :data:`MOST_VALUES` values, aliases counted each time."""
    return _with_text_keys(_loaded(text))  # a copy: what is kept must stay as it is


@functools.lru_cache(maxsize=256)
def _loaded(text: str) -> Any:
    """Parses a text. Recipes share their fragments, and a fragment is parsed once."""
    try:
        loaded = yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_size(loaded)
    return loaded


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key) if isinstance(key, str) else key: _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value


def _check_size(loaded: Any) -> None:
    def walk(value: Any, above: tuple[int, ...]) -> Iterator[None]:
        if id(value) in above:
            raise ValueError("an alias refers to what it stands in")
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for item in inner:
            yield
            yield from walk(item, (*above, id(value)))

    for count, _ in enumerate(walk(loaded, ())):
        if count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values, aliases counted each time")


def read_word(text: str) -> Any:
    """Reads the value of a ``key=value`` word. It is taken as it was typed, unless it begins with a quote or a bracket:
    then it must be YAML (quoted text, a list, or a mapping). Raises yaml.YAMLError or ValueError if it is not."""
    inner = text.strip()
    if not inner.startswith(("[", "{", "'", '"')):
        return Plain(text)
    try:
        node = yaml.compose(inner, Loader=_Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if node is None or node.end_mark.index != len(inner):
        raise ValueError("something stands behind its end")
    return read_yaml_text(inner)


def quoted_word(key: str, text: str) -> str:
    """Writes ``key=text`` as a shell takes it, with the text in YAML quotes.

    >>> print(quoted_word("run_dir", "[a"))
    run_dir='"[a"'
    """
    inner = json.dumps(text, ensure_ascii=False)
    return f"{key}='{inner}'" if "'" not in inner else shlex.quote(f"{key}={inner}")


def word_fault(error: Exception) -> str:
    """Says in words why :func:`read_word` or :func:`read_yaml_text` does not take a text."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None:
        return " ".join(str(error).split())
    place = f" at character {mark.column + 1}" if mark is not None else ""
    return f"{problem.replace('<stream end>', 'its end')}{place}"
