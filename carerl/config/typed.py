"""From a tree of plain values to typed dataclasses and back, strictly.

A whole number is not a truth value, ``2.0`` is not a whole number, and no text is taken for a number: the
recipe says what it means or is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, make_dataclass
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from carerl.config.compose import Tree
from carerl.config.errors import ConfigError, suggestion, unknown_key
from carerl.config.schema import RunConfig
from carerl.config.tables import CHOICES, choice_config

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}

#: Settings of earlier versions: why each is gone. What they meant is not guessed from the new ones.
RETIRED = {
    "sync.probe_abort": "it bounded the largest gap of a probe, which grows with the tokens without any fault",
    "sync.mismatch_abort": "it bounded the mean alone, whatever the dtype",
}
RETIRED_REMEDY = (
    "leave it out (the limits are then those of the dtype), or write {check}_mean_abort and {check}_q999_abort, nats"
)

SIGNED_FRACTION = re.compile(r"[-+]\.[0-9]+([eE][-+]?[0-9]+)?")  # -.5, which YAML 1.1 takes for text


def build(tree: Mapping[str, Any]) -> RunConfig:
    """A resolved tree as a RunConfig. Raises ConfigError for unknown keys, wrong types, unknown names."""
    paths = list(setting_paths(tree))
    result: RunConfig = fill(RunConfig, {k: v for k, v in tree.items() if k not in CHOICES}, "", "a run", paths)
    for section in CHOICES:
        setattr(result, section, choose(section, tree.get(section), paths))
    return result


def setting_paths(tree: Mapping[str, Any]) -> Iterator[str]:
    """Dotted names of the settings and sections that a run with this tree's choices has."""
    yield from _paths(RunConfig, "")
    for section in CHOICES:
        chosen = tree.get(section)
        if isinstance(chosen, dict) and (config := choice_config(section, chosen.get("name"))) is not None:
            yield from _paths(config, section + ".")


def _paths(cls: type, prefix: str) -> Iterator[str]:
    for key, hint in get_type_hints(cls).items():
        yield prefix + key
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _paths(hint, f"{prefix}{key}.")


def choose(section: str, tree: Any, paths: Sequence[str] = ()) -> Any:
    """The dataclass that a section's ``name`` chooses, filled; None for a section that is absent."""
    if tree is None:
        return None
    table = CHOICES[section]
    if not isinstance(tree, dict):
        raise ConfigError(
            section,
            tree,
            f"{section} is a section with a name and settings, not a single value",
            f"write {section}.name={tree}",
        )
    name = tree.get("name")
    if name is None:
        raise ConfigError(
            f"{section}.name",
            name,
            f"{section} has settings but no name",
            f"choose one of {', '.join(table)}",
        )
    if name not in table:
        raise ConfigError(f"{section}.name", name, f"there is no {section} of this name", suggestion(str(name), table))
    return fill(table[name].config, tree, section + ".", f"{section} {name}", paths)


def fill(cls: type, tree: Mapping[str, Any], prefix: str, owner: str, paths: Sequence[str] = ()) -> Any:
    """An instance of a dataclass from plain values, defaults for what is absent. ``paths``: where a key that is not
    one of the dataclass may have been meant."""
    names = [f.name for f in fields(cls)]
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        path = prefix + key
        if path in RETIRED:
            remedy = RETIRED_REMEDY.format(check=path.removesuffix("_abort"))
            raise ConfigError(path, value, RETIRED[path], remedy)
        if key not in names:
            raise unknown_key(path, value, owner, names, paths)
        hint = hints[key]
        if is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, dict):
                section = fields(hint)[0].name
                raise ConfigError(
                    path, value, f"{path} is a section, not a single value", f"write {path}.{section}=..."
                )
            values[key] = fill(hint, value, path + ".", f"section {path}", paths)
        else:
            values[key] = convert(hint, path, value)
    return cls(**values)


def convert(hint: Any, path: str, value: Any) -> Any:
    """One value in the type of its field. Raises ConfigError when it is not of that type."""
    if hint is str and value is None:
        return ""  # `key=` on the command line
    if hint is str and value is False:
        return "off"  # YAML reads off as false, and tracking.wandb=off is meant as it says
    if hint is float and isinstance(value, str) and SIGNED_FRACTION.fullmatch(value):
        value = float(value)
    if hint in WORDS:
        allowed: dict[Any, tuple[type, ...]] = {float: (int, float), str: (str, int, float)}
        fits = isinstance(value, allowed.get(hint, (hint,))) and (hint is bool or not isinstance(value, bool))
        if not fits:
            raise ConfigError(path, value, f"it must be {WORDS[hint]}", f"write {path}=<{WORDS[hint]}>")
        return hint(value)
    if hint is Any:
        return value
    # lists, tuples, literals and optional values: OmegaConf checks them against the hint
    key = path.rpartition(".")[2]
    try:
        node = OmegaConf.structured(make_dataclass("Leaf", [(key, hint)]))
        OmegaConf.update(node, key, value)
        plain = OmegaConf.to_object(node[key]) if OmegaConf.is_config(node[key]) else node[key]
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(path, value, f"it is of the wrong type: {reason}", f"give {hint}") from None
    return plain


def plain(config: Any) -> Tree:
    """A dataclass as nested dicts of plain values, tuples as lists: what YAML and JSON can hold."""
    return {f.name: _plain(getattr(config, f.name)) for f in fields(config)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value
