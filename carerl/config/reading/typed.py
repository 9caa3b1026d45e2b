"""From a tree of plain values to typed dataclasses and back, strictly.

The type of a setting decides what was typed: text stays as it is, and numbers are read in base ten. A whole number is
not a truth value, ``2.0`` is not a whole number, and no text in quotes is taken for a number: the recipe says what it
means or is refused.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, make_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from carerl.config.reading.compose import Tree
from carerl.config.reading.paths import PLACES, local
from carerl.config.reading.scalars import (
    NULL,
    Plain,
    Referred,
    meant_number,
    native,
    quoted_word,
    real_number,
    truth,
    whole_number,
)
from carerl.config.schema import RunConfig
from carerl.config.tables import CHOICES, base_of, choice_config
from carerl.errors import ConfigError, raise_all, shown, suggestion, unknown_key
from carerl.settings import bounds_of

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}

#: Settings of earlier versions: why each is gone. What they meant is not guessed from the new ones.
RETIRED = {
    "sync.probe_abort": "it bounded the largest gap of a probe, which grows with the tokens without any fault",
    "sync.mismatch_abort": "it bounded the mean alone, whatever the dtype",
}
RETIRED_REMEDY = (
    "leave it out (the limits are then those of the dtype), or write {check}_mean_abort and {check}_q999_abort, nats"
)


def build(tree: Mapping[str, Any]) -> RunConfig:
    """Makes a RunConfig of a resolved tree, with ``~`` in paths expanded. Raises ConfigError for unknown keys, wrong
    types and unknown names."""
    paths = list(setting_paths(tree))
    result: RunConfig = fill(RunConfig, {k: v for k, v in tree.items() if k not in CHOICES}, "", "a run", paths)
    raise_all([error for bound in bounds_of(RunConfig)["kind"] for error in bound.errors("kind", result.kind)])
    for section in CHOICES:
        setattr(result, section, choose(section, tree.get(section), paths))
    _expand_places(result)
    return result


def _expand_places(config: RunConfig) -> None:
    """Replaces all settings that are paths by what :func:`carerl.config.reading.paths.local` makes of them."""
    for path in PLACES:
        owner: Any = config
        *parents, name = path.split(".")
        for part in parents:
            owner = getattr(owner, part, None)
        found = getattr(owner, name, None)
        if isinstance(found, str):
            setattr(owner, name, local(path, found))
        elif isinstance(found, list):
            setattr(owner, name, [local(path, item) if isinstance(item, str) else item for item in found])


def setting_paths(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yields the dotted names of the settings and sections that a run with this tree's choices has."""
    return (path for path, _ in setting_hints(tree))


def setting_hints(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, type) of the settings and sections that a run with this tree's choices has."""
    yield from _hints(RunConfig, "")
    for section in CHOICES:
        chosen = tree.get(section)
        if isinstance(chosen, dict) and (config := choice_config(section, chosen.get("name"))) is not None:
            yield from _hints(config, section + ".")


@functools.cache
def _types(cls: type) -> Mapping[str, Any]:
    """Returns the types of a dataclass's fields; to read them from their texts takes most of the time of a load."""
    return get_type_hints(cls)


def _hints(cls: type, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, hint in _types(cls).items():
        yield prefix + key, hint
        if key in CHOICES:  # its settings are those of the choice
            continue
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _hints(hint, f"{prefix}{key}.")


def choose(section: str, tree: Any, paths: Sequence[str] = ()) -> Any:
    """Fills the dataclass that a section's ``name`` chooses; returns None for a section that is absent. Raises
    ConfigError."""
    if native(tree) is None:
        return None
    table = CHOICES[section]
    if not isinstance(tree, dict):
        raise ConfigError(
            section,
            native(tree),
            f"{section} is a section with a name and settings, not a single value",
            f"write {section}.name={tree}" if isinstance(tree, str) and tree else f"write {section}.name=...",
        )
    name = tree.get("name")
    if name is None or not isinstance(name, str) or not name:
        raise ConfigError(
            f"{section}.name",
            native(name),
            f"{section} has settings but no name" if name is None or name == "" else "it must be one name",
            f"choose one of {', '.join(table)}",
        )
    if name not in table:
        raise ConfigError(f"{section}.name", name, f"there is no {section} of this name", suggestion(str(name), table))
    tree = {**tree, "name": str(name)}
    config, base = table[name].config, base_of(section)
    if not issubclass(config, base):
        reason = f"its settings are a {config.__name__}, which is no {base.__name__}"
        remedy = f"let {config.__name__} inherit {base.__module__}.{base.__name__}"
        raise ConfigError(f"{section}.name", name, reason, remedy)
    for key in tree:
        if key in _names(config):
            continue
        if havers := [other for other, entry in table.items() if key in _names(entry.config)]:
            error = unknown_key(f"{section}.{key}", native(tree[key]), f"{section} {name}", _names(config))
            error.remedy = f"leave it out, or write {section}.name=, one of {', '.join(havers)}"
            raise error
    return fill(config, tree, section + ".", f"{section} {name}", paths)


def _names(config: type) -> list[str]:
    return [field.name for field in fields(config)]


def fill(cls: type, tree: Mapping[str, Any], prefix: str, owner: str, paths: Sequence[str] = ()) -> Any:
    """Makes an instance of a dataclass from plain values; what is absent has its default. ``paths``: dotted names among
    which an unknown key may have been meant. Raises ConfigError."""
    names = [f.name for f in fields(cls)]
    hints = _types(cls)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        path = prefix + key
        if path in RETIRED:
            remedy = RETIRED_REMEDY.format(check=path.removesuffix("_abort"))
            raise ConfigError(path, native(value), RETIRED[path], remedy)
        if key not in names:
            raise unknown_key(path, native(value), owner, names, paths)
        hint = hints[key]
        if is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, dict):
                section = fields(hint)[0].name
                raise ConfigError(
                    path, native(value), f"{path} is a section, not a single value", f"write {path}.{section}=..."
                )
            values[key] = fill(hint, value, path + ".", f"section {path}", paths)
        else:
            values[key] = convert(hint, path, value)
    return cls(**values)


def convert(hint: Any, path: str, value: Any) -> Any:
    """Converts one value to the type of its field. Raises ConfigError if it is not of that type."""
    if hint is str:
        return _text(path, value)
    if hint in WORDS:
        return _number(hint, path, value)
    if hint is Any:
        return native(value)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (list, tuple):
        return _list(hint, path, value)
    if origin in (Union, types.UnionType):
        if type(None) in inner and native(value) is None:
            return None
        kinds = [kind for kind in inner if kind is not type(None)]
        if len(kinds) == 1:
            return convert(kinds[0], path, value)
    if origin is Literal:
        for name in inner:
            if name == native(value) or (isinstance(name, str) and name == value):
                return name
        names = [str(name) for name in inner]
        raise ConfigError(path, native(value), f"it must be one of {', '.join(names)}", suggestion(str(value), names))
    return _by_library(hint, path, native(value))


def _text(path: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        if isinstance(value, Plain) and not isinstance(value, Referred) and value in NULL:
            reason = f"{value} is YAML's word for nothing, and a text of its own"
            raise ConfigError(
                path, value, reason, f"for nothing write {path}=, for the text {quoted_word(path, value)}"
            )
        return str(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    typed = str(value).lower() if isinstance(value, bool) else "..."
    raise ConfigError(path, native(value), "it must be text", f"put it in quotes: {quoted_word(path, typed)}")


def _number(hint: Any, path: str, value: Any) -> Any:
    """Reads a whole number, a number, or a truth value. Raises ConfigError."""
    reads: dict[Any, Any] = {bool: truth, int: whole_number, float: real_number}
    if isinstance(value, Plain):
        found = reads[hint](str(value).strip())
    else:
        allowed: dict[Any, Any] = {bool: bool, int: int, float: (int, float)}
        right = isinstance(value, allowed[hint]) and (hint is bool or not isinstance(value, bool))
        found = hint(value) if right else None
    if found is None:
        raise _no_number(hint, path, value)
    return found


def _no_number(hint: Any, path: str, value: Any) -> ConfigError:
    """Returns the refusal, with the number that may have been meant."""
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    reason, remedy = f"it must be {WORDS[hint]}", f"write {path}=<{WORDS[hint]}>"
    in_quotes = isinstance(value, str) and not isinstance(value, Plain)
    reads: dict[Any, Any] = {bool: truth, int: whole_number, float: real_number}
    if in_quotes and (meant := reads[hint](text)) is not None:
        reason, remedy = f"it must be {WORDS[hint]}, and this is text in quotes", f"write {path}={str(meant).lower()}"
    elif hint is not bool and (guess := meant_number(text)) is not None:
        in_base_ten = f"{WORDS[hint]}, in base ten and digits alone" if hint is int else f"{WORDS[hint]} in base ten"
        reason, remedy = f"it must be {in_base_ten}", f"write {path}={guess}, if that is what is meant"
    elif hint is int and text.lstrip("+-").isdecimal():
        reason, remedy = "it must be a whole number, and this one is too large", f"write {path}=<less than 2**63>"
    if isinstance(value, Referred):
        reason += f"; {value.source} gives the text {str(value)!r}"
    return ConfigError(path, native(value) if not isinstance(value, str) else str(value), reason, remedy)


def _list(hint: Any, path: str, value: Any) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    kind = inner[0] if inner else Any
    if not isinstance(value, list | tuple):
        reason = f"it is of the wrong type: it must be a list, of {_several(kind)}"
        raise ConfigError(path, native(value), reason, f"a list stands in brackets: write {path}={_listed(value)}")
    if origin is tuple and (len(inner) < 2 or inner[1] is not Ellipsis) and len(value) != len(inner):
        reason = f"it is of the wrong type: it must be {len(inner)} values, not {len(value)}"
        raise ConfigError(path, native(value), reason, f"write {path}=[{', '.join('...' for _ in inner)}]")
    found = []
    for number, item in enumerate(value):
        one = inner[number] if origin is tuple and Ellipsis not in inner else kind
        try:
            found.append(convert(one, path, item))
        except ConfigError as error:
            reason = f"it is of the wrong type: {shown(native(item))} in a list of {_several(kind)}: {error.reason}"
            whole = f"write a list of {_several(kind)}: {path}={_listed(value)}"
            raise ConfigError(path, native(value), reason, whole) from None
    return tuple(found) if origin is tuple else found


def _several(kind: Any) -> str:
    return {bool: "true or false", int: "whole numbers", float: "numbers", str: "texts"}.get(kind, "values")


def _listed(value: Any) -> str:
    """Writes what was given as a list that can be typed."""
    return "[" + ",".join(_flat(value)) + "]"


def _flat(value: Any) -> list[str]:
    """Returns the single values in what was given; a text is cut at commas, else at blanks."""
    if isinstance(value, dict):
        return [f"{key}={part}" for key, item in value.items() for part in _flat(item) or [""]]
    if isinstance(value, list | tuple):
        return [part for item in value for part in _flat(item)]
    return [] if value is None else _parts(str(value))


def _parts(text: str) -> list[str]:
    text = text.strip().strip("()[]")
    cut = text.split(",") if "," in text else text.split()
    return [part.strip() for part in cut if part.strip()]


def _by_library(hint: Any, path: str, value: Any) -> Any:
    """Types that none of the shipped settings has: OmegaConf checks them."""
    key = path.rpartition(".")[2]
    try:
        node = OmegaConf.structured(make_dataclass("Leaf", [(key, hint)]))
        OmegaConf.update(node, key, value)
        return OmegaConf.to_object(node[key]) if OmegaConf.is_config(node[key]) else node[key]
    except (OmegaConfBaseException, ValueError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(path, value, f"it is of the wrong type: {reason}", f"give {hint}") from None


def plain(config: Any) -> Tree:
    """Turns a dataclass into nested dicts of plain values, tuples into lists: what YAML and JSON can hold."""
    return {f.name: _plain(getattr(config, f.name)) for f in fields(config)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value
