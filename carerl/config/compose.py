"""Recipe files: where they are found, how they are read, and how ``extends:`` puts them together.

Order of composition, later wins: the files named in ``extends`` from first to last, the file's own keys,
then the command line. Mappings merge key by key; everything else, lists included, is replaced.

A section chosen by ``name`` (task, algorithm, regularizer, reward) changes its meaning when a later layer changes the
name: keys inherited from earlier layers that the newly chosen dataclass does not have, or has with another default, are
dropped (a clip made for a ratio of sequences is none for tokens), the others are kept. So ``recipe=care_grpo_tiny
regularizer.name=rkl`` keeps the recipe's beta and estimator and drops its alpha, whereas ``regularizer.name=rkl
regularizer.alpha=.5`` asks for an alpha that rkl does not have, and is refused. Nothing is inherited by
``regularizer.name=none``. In the same way a ``model.path`` replaces an inherited ``model.base_recipe``.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from carerl.config.errors import ConfigError, suggestion
from carerl.config.tables import CHOICES, choice_config

Tree = dict[str, Any]
NAME = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*")


def recipe_folders() -> list[Path]:
    """``./recipes`` of the working directory first, then those that came with the package."""
    package = Path(__file__).resolve().parents[1]
    # inside a wheel the recipes travel as carerl/recipes; in an editable install they lie beside carerl/
    packaged = package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"
    folders = [Path.cwd() / "recipes", packaged]
    unique = {f.resolve(): f for f in reversed(folders) if f.is_dir()}
    return list(reversed(unique.values()))


def recipe_names() -> list[str]:
    """Names that can be run, sorted: the top-level files. Fragments lie in sub-folders."""
    return sorted({p.stem for folder in recipe_folders() for p in folder.glob("*.yaml")})


def recipe_lines() -> list[tuple[str, str]]:
    """(name, one line) of every recipe that can be run; a broken file's line says that it is broken."""
    lines = []
    for name in recipe_names():
        try:
            lines.append((name, str(read_file(name).get("description") or "")))
        except ConfigError as error:
            lines.append((name, f"({error.reason})"))
    return lines


def find(name: str, asked_by: str = "recipe") -> Path:
    """The file of a recipe or fragment. Raises ConfigError with the nearest name when there is none."""
    if isinstance(name, str) and NAME.fullmatch(name):
        for folder in recipe_folders():
            path = folder / f"{name}.yaml"
            if path.is_file():
                return path
    known = recipe_names()
    if asked_by not in ("recipe", "model.base_recipe"):
        known = sorted(
            {p.relative_to(f).with_suffix("").as_posix() for f in recipe_folders() for p in f.rglob("*.yaml")}
        )
    raise ConfigError(asked_by, name, "there is no recipe file of this name", suggestion(str(name), known))


def read_yaml(path: Path) -> Tree:
    """A YAML file as a plain dict, by OmegaConf's safe loader, which refuses duplicate keys.

    Raises ConfigError for a file that cannot be read, does not parse, or is not a mapping."""
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), None, f"cannot be read: {error}", "check the file") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(str(path), None, f"not valid YAML: {reason}", "correct the file") from None
    if not isinstance(loaded, dict) or not all(isinstance(k, str) for k in loaded):
        raise ConfigError(str(path), loaded, "a recipe is a mapping of keys to values", "correct the file")
    return {str(k): v for k, v in loaded.items()}


def read_file(name: str, asked_by: str = "recipe") -> Tree:
    """The keys that a recipe's own file holds, ``extends`` and ``description`` included."""
    return read_yaml(find(name, asked_by))


def inherited(name: str) -> Tree:
    """What a recipe gets from its ``extends``, before its own keys."""
    return _compose_extends(read_file(name), name, (name,))


def compose(name: str, asked_by: str = "recipe") -> Tree:
    """A recipe with everything that it extends. ``description`` is the file's own, never inherited.

    Raises ConfigError under the field ``asked_by``, with the nearest name, when there is no such recipe."""
    if "/" in str(name):
        raise ConfigError(
            asked_by,
            name,
            "a file in a sub-folder of recipes/ is a fragment for extends, not a whole recipe",
            suggestion(str(name).rpartition("/")[2], recipe_names()),
        )
    return _compose(name, asked_by, ())


def fragment(name: str) -> Tree:
    """A file in a sub-folder with everything that it extends, for a command that runs no recipe. Raises ConfigError."""
    return _compose(name, "recipe", ())


def _compose(name: str, asked_by: str, chain: tuple[str, ...]) -> Tree:
    if name in chain:
        raise ConfigError(
            asked_by, name, "extends goes in a circle: " + " -> ".join([*chain, name]), "break the circle"
        )
    own = read_file(name, asked_by)
    base = _compose_extends(own, name, (*chain, name))
    base.pop("description", None)
    return merge(base, {k: v for k, v in own.items() if k != "extends"})


def _compose_extends(own: Tree, name: str, chain: tuple[str, ...]) -> Tree:
    parents = own.get("extends") or []
    if isinstance(parents, str):
        parents = [parents]
    if not isinstance(parents, list):
        raise ConfigError(f"{name}: extends", parents, "extends is a list of names", "write extends: [a, b]")
    tree: Tree = {}
    for parent in parents:
        tree = merge(tree, _compose(parent, f"{name}: extends", chain))
    return tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """``over`` on top of ``base``; neither is changed. See the module's docstring for chosen sections."""
    base = dict(base)
    for section in CHOICES:
        below, above = base.get(section), over.get(section)
        if not isinstance(below, dict) or not isinstance(above, dict):
            continue
        chosen = above.get("name")
        if chosen is None or chosen == below.get("name"):
            continue
        config = choice_config(section, chosen)
        kept = set(below) if config is None else _shared(config, choice_config(section, below.get("name")))
        if section == "regularizer" and chosen == "none":
            kept = set()  # strengths and estimators of another regularizer mean nothing here
        base[section] = {k: v for k, v in below.items() if k in kept}
    return _deep(_one_model(base, over), over)


def _shared(config: type, before: type | None) -> set[str]:
    """Settings that mean the same in two dataclasses: of one name and one default. All, where nothing was before."""
    defaults, earlier = _defaults(config), _defaults(before) if before is not None else None
    return {name for name, value in defaults.items() if earlier is None or earlier.get(name, MISSING) == value}


def _defaults(config: type) -> dict[str, Any]:
    made = config()
    return {f.name: getattr(made, f.name) for f in fields(made)}


def _one_model(base: Tree, over: Mapping[str, Any]) -> Tree:
    """``model.path`` and ``model.base_recipe`` exclude each other: giving one drops the inherited other."""
    below, above = base.get("model"), over.get("model")
    if isinstance(below, dict) and isinstance(above, dict):
        for given, dropped in (("path", "base_recipe"), ("base_recipe", "path")):
            if above.get(given):
                below = {k: v for k, v in below.items() if k != dropped}
        base["model"] = below
    return base


def _deep(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        result[key] = _deep(below, value) if both and below is not None else value
    return result


def as_plugins(value: Any) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ConfigError("plugins", value, "plugins is a list of module names", "write plugins=[my_module]")
    return value


def import_plugins(names: list[str]) -> None:
    """Imports the user's modules, which may add lines to the tables. Raises ConfigError when one fails."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(
                "plugins",
                name,
                f"importing it failed: {type(error).__name__}: {error}",
                "a plugin is a module on the Python path, written with dots and without .py",
            ) from error


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
