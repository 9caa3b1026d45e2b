"""``${other.key}`` and ``${oc.env:NAME}``: what they stand for.

A reference finds every setting that a run has, named by a recipe or not. What it finds is text or a number as the other
setting is; an environment variable is text, and becomes a number where the setting is one.

What a run is given is written into its ``config.yaml``. A variable whose name says that it is a secret (KEY, TOKEN,
SECRET, PASSWORD, CREDENTIAL and the like), or whose value looks like one, is therefore refused, and a stored
``config.yaml`` may not ask for any.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from carerl.config.reading.compose import Tree, leaves, over_below
from carerl.config.reading.scalars import Referred, native
from carerl.config.reading.typed import plain, setting_hints
from carerl.config.schema import RunConfig
from carerl.config.tables import CHOICES, choice_config
from carerl.errors import ConfigError, nearest
from carerl.text.redaction import names_secret, redact_text

_ABSENT = object()
MISSING = "???"
_MARK = re.compile(r"(\\*)\$\{")


def resolve(tree: Tree, environment: bool = True) -> Tree:
    """Replaces every ``${...}`` in a tree. ``environment``: whether environment variables may be read. Raises
    ConfigError for a reference that leads nowhere or to a secret, and for the value ???."""
    tree = {k: v for k, v in tree.items() if k != "extends"}
    if _plain(tree):
        return {key: _as_asked(value, value) for key, value in tree.items()}  # a copy, as below
    typed = _typed(tree, dict(setting_hints(tree)), "")
    whole = over_below(_defaults(tree), typed)
    with _variables(environment):
        try:
            found = OmegaConf.to_container(OmegaConf.create(whole), resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise _unresolved(error, tree) from None
        except RecursionError:
            raise _circle(tree) from None
    assert isinstance(found, dict)
    result = _as_asked(tree, found)
    assert isinstance(result, dict)
    return result


def _plain(value: Any) -> bool:
    """Returns True for a tree in which nothing is to be replaced or refused, as most are."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_plain(item) for item in value)
    if isinstance(value, str):
        return not refers(value) and value != MISSING
    return value is None or isinstance(value, bool | int | float)


def literal(tree: Tree) -> Tree:
    """Escapes ``${`` in the texts of a tree that is resolved already, so that it stands for itself."""
    return {key: _literal(value) for key, value in tree.items()}


def _literal(value: Any) -> Any:
    if isinstance(value, dict):
        return literal(value)
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return _MARK.sub(lambda match: 2 * match[1] + r"\${", value) if refers(value) else value  # else as it was typed


def refers(value: Any) -> bool:
    """Returns whether a value is text with a reference in it."""
    return isinstance(value, str) and "${" in value


def _typed(value: Any, hints: Mapping[str, Any], path: str) -> Any:
    """Makes plain values for OmegaConf; text stays as it was typed where the setting is text."""
    if isinstance(value, dict):
        return {key: _typed(item, hints, f"{path}.{key}" if path else str(key)) for key, item in value.items()}
    if isinstance(value, list):
        texts = hints.get(path) == list[str]
        return [str(item) if texts and isinstance(item, str) else native(item) for item in value]
    is_text = hints.get(path) is str or refers(value)
    return str(value) if isinstance(value, str) and is_text else native(value)


def _defaults(tree: Tree) -> Tree:
    """Returns the settings that a run has by default."""
    found = plain(RunConfig())
    for section in CHOICES:
        chosen = tree.get(section)
        config = choice_config(section, chosen.get("name")) if isinstance(chosen, dict) else None
        found[section] = plain(config()) if config is not None else None
    return found


def _as_asked(asked: Any, found: Any) -> Any:
    """Returns what was asked for, with its references replaced."""
    if isinstance(asked, dict) and isinstance(found, dict):
        return {key: _as_asked(value, found[key]) for key, value in asked.items()}
    if isinstance(asked, list) and isinstance(found, list):
        return [_as_asked(value, item) for value, item in zip(asked, found, strict=True)]
    if not refers(asked):
        return asked
    return Referred(found, str(asked)) if isinstance(found, str) else found


@contextmanager
def _variables(allowed: bool) -> Iterator[None]:
    """Puts this module's reading of ``${oc.env:NAME}`` in the place of OmegaConf's."""

    def read(name: str, default: Any = _ABSENT) -> Any:
        return _variable(str(name), default, allowed)

    OmegaConf.register_resolver("oc.env", read, replace=True, annotation_validation="off")
    try:
        yield
    finally:
        OmegaConf.register_resolver("oc.env", oc.env, replace=True, annotation_validation="off")


def _variable(name: str, default: Any, allowed: bool) -> Any:
    if not allowed:
        reason = f"a stored run's settings are values, and this one asks for the environment variable {name}"
        raise ConfigError(name, None, reason, "write the value itself into the file")
    value = os.environ.get(name)
    if not names_secret(name) and value is None and default is not _ABSENT:
        return None if default is None else str(default)
    if not names_secret(name) and value is None:
        remedy = f"set {name}, or give a value for where it is not set: ${{oc.env:{name},VALUE}}"
        raise ConfigError(name, None, f"the environment variable {name} is not set", remedy)
    if value is None or names_secret(name) or redact_text(value) != value:
        which = "its name" if names_secret(name) else "its value"
        reason = (
            f"by {which} the environment variable {name} is a secret, and a run's settings are written to config.yaml"
        )
        remedy = "leave it out: W&B, the hub and Ray read their variables by themselves"
        raise ConfigError(name, None, reason, remedy)
    return value


def _unresolved(error: OmegaConfBaseException, tree: Tree) -> ConfigError:
    key = str(getattr(error, "full_key", "") or "") or _faulty(tree) or "recipe"
    value = dict(leaves(tree)).get(key)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigError):
            return ConfigError(key, value, f"{cause.reason}", cause.remedy)
        cause = cause.__cause__ or cause.__context__
    reason = str(error).strip().splitlines()[0]
    remedy = f"give a value: {key}=..."
    if missing := re.search(r"Interpolation key '([^']*)' not found", reason):
        guess = None if _is_variable(missing[1]) else _meant(missing[1], list(dict(setting_hints(tree))))
        remedy = f"did you mean {key}=${{{guess}}}? " if guess else ""
        remedy += f"an environment variable is written {key}=${{oc.env:{missing[1]}}}"
    elif "Unsupported interpolation type" in reason:
        remedy = "${other.key} is another setting, ${oc.env:NAME} an environment variable"
    elif refers(value):
        remedy = f"{remedy}; write \\${{ for these two characters themselves"
    return ConfigError(key, value, f"cannot be resolved: {reason}", remedy)


def _meant(name: str, known: list[str]) -> str | None:
    """Guesses the setting that a reference stands for: one that ends so, else the most similar one."""
    last = [path for path in known if path.rpartition(".")[2] == name]
    return last[0] if len(last) == 1 else nearest(name, known)


def _is_variable(name: str) -> bool:
    return name in os.environ or name.isupper()


def _faulty(tree: Tree) -> str:
    """Finds the first setting whose text cannot be read as a reference; OmegaConf does not name it."""
    for key, value in leaves(tree):
        if refers(value):
            try:
                OmegaConf.create({"value": str(value)})
            except OmegaConfBaseException:
                return key
    return ""


def _circle(tree: Tree) -> ConfigError:
    key, value = next((key, value) for key, value in leaves(tree) if refers(value))
    return ConfigError(key, value, "cannot be resolved: references go in a circle", f"give a value: {key}=...")


__all__ = ["literal", "refers", "resolve"]
