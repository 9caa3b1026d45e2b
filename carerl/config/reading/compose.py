"""Recipe files: where they are found, how they are read, and how ``extends:`` puts them together.

Order of composition, later wins: the files named in ``extends`` from first to last, the file's own keys,
then the command line. Mappings merge key by key; everything else, lists included, is replaced. ``scale=NAME`` on the
command line puts ``scale/NAME`` in the place of the files of ``scale/`` that the recipe extends.

A section chosen by ``name`` (task, algorithm, regularizer, reward) changes its meaning when a later layer changes the
name: keys inherited from earlier layers that the newly chosen dataclass does not have, or has with another default, are
dropped (a clip made for a ratio of sequences does not suit tokens), the others are kept. So ``recipe=care_grpo_tiny
regularizer.name=rkl`` keeps the recipe's beta and estimator and drops its alpha, whereas ``regularizer.name=rkl
regularizer.alpha=.5`` asks for an alpha that rkl does not have, and is refused. Nothing is inherited by
``regularizer.name=none``. In the same way a ``model.path`` replaces an inherited ``model.base_recipe``.
"""

from __future__ import annotations

import importlib
import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from carerl.config.reading.paths import local, refuse_address
from carerl.config.reading.scalars import Plain, native, read_yaml_text
from carerl.config.tables import CHOICES, choice_config
from carerl.errors import ConfigError, suggestion

Tree = dict[str, Any]
SCALE = "scale/"  # the folder of files that say how large a run is, and on how many GPUs
SUFFIXES = (".yaml", ".yml")  # of recipe files; those that are listed, and found by name, have the first


def recipe_folders() -> list[Path]:
    """Returns ``./recipes`` of the working directory, then the folder that came with the package."""
    package = Path(__file__).resolve().parents[2]
    # inside a wheel the recipes travel as carerl/recipes; in an editable install they lie beside carerl/
    packaged = package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"
    folders = [Path.cwd() / "recipes", packaged]
    unique = {f.resolve(): f for f in reversed(folders) if f.is_dir()}
    return list(reversed(unique.values()))


def recipe_names() -> list[str]:
    """Lists the names that can be run, sorted: the top-level files. Fragments lie in sub-folders."""
    return sorted({p.stem for folder in recipe_folders() for p in folder.glob("*.yaml") if p.name[0] != "."})


def scale_names() -> list[str]:
    """Lists the files that say how large a run is, and on how many GPUs, sorted."""
    return sorted({path.stem for folder in recipe_folders() for path in (folder / SCALE).glob("*.yaml")})


def recipe_lines() -> list[tuple[str, str]]:
    """Returns (name, one line) of every recipe that can be run; the line of a broken file says what is wrong with
    it."""
    return [(name, _line_of(name)) for name in recipe_names()]


def scale_lines() -> list[tuple[str, str]]:
    """Returns (name, one line) of every file of ``scale/``."""
    return [(name, _line_of(f"{SCALE}{name}")) for name in scale_names()]


def _line_of(name: str) -> str:
    try:
        return str(read_file(name).get("description") or "")
    except ConfigError as error:
        return f"({error.reason})"


def label(name: str) -> str:
    """Returns what a recipe's runs are called: its name, or for a path the file's name without its ending.

    >>> label("care_grpo_tiny"), label("../mine/my.recipe.yaml")
    ('care_grpo_tiny', 'my.recipe')
    """
    last = str(name).rstrip("/").rpartition("/")[2]
    return next((last.removesuffix(suffix) for suffix in SUFFIXES if last.endswith(suffix)), last)


def find(name: str, asked_by: str = "recipe") -> Path:
    """Finds the file of a recipe or fragment by its name in the recipe folders. A recipe that is to be run may also be
    given by a path (ends in .yaml or .yml, or has a slash). Raises ConfigError with the nearest name."""
    name = str(name)
    refuse_address(asked_by, name)
    if (found := _by_name(name)) is not None:
        return found
    if asked_by == "recipe" and (found := _by_path(name)) is not None:
        return found
    known = recipe_names()
    if asked_by not in ("recipe", "model.base_recipe"):
        known = sorted(
            {p.relative_to(f).with_suffix("").as_posix() for f in recipe_folders() for p in f.rglob("*.yaml")}
        )
    raise ConfigError(asked_by, name, *_not_found(name, asked_by, known))


def _by_name(name: str) -> Path | None:
    if not name or "\0" in name or name.startswith("/") or {"", ".", ".."} & set(name.split("/")):
        return None
    for folder in recipe_folders():
        path = folder / f"{name}.yaml"
        if _is_file(path):
            return path
        for path in folder.glob("*.yaml"):  # an accent may be a character of its own, or part of its letter's
            if unicodedata.normalize("NFC", path.stem) == unicodedata.normalize("NFC", name):
                return path
    return None


def _by_path(name: str) -> Path | None:
    """Finds the file that a path leads to. NAME.yaml that is not in the working directory is looked for in the recipe
    folders."""
    ends = name.endswith(SUFFIXES)
    if not (ends or "/" in name):
        return None
    path = Path(local("recipe", name))
    folders = recipe_folders() if "/" not in name else []
    for candidate in (path, *(folder / path for folder in folders)):
        if ends and _is_file(candidate):
            return candidate
    beside = path.with_name(f"{path.name}.yaml") if path.name and not ends else None
    return beside if beside is not None and _is_file(beside) else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that is closed
        return False


def _not_found(name: str, asked_by: str, known: list[str]) -> tuple[str, str]:
    """Returns reason and remedy."""
    if asked_by == "recipe" and os.path.isdir(name):
        return "it is a directory, and a recipe is a file", suggestion(label(name), known)
    for folder in recipe_folders():
        if asked_by == "recipe" and _is_file(folder / f"{name}.yml"):
            file = folder / f"{name}.yml"
            return f"its file is {file}, and a name stands for a .yaml file", f"rename it, or write recipe={file}"
    remedy = suggestion(label(name) if asked_by == "recipe" else name, known)
    if asked_by == "recipe":
        remedy += "; a recipe of your own is given by its path, or put into ./recipes and given by its name"
    elif asked_by == "model.base_recipe" and name.endswith(SUFFIXES):
        remedy = f"put it into ./recipes and write {asked_by}={label(name)}"
    elif name.endswith(SUFFIXES):
        remedy = f"put it into ./recipes and write {label(name)}, its name"
    return "there is no recipe file of this name", remedy


def read_yaml(path: Path) -> Tree:
    """Reads a YAML file as a plain dict whose scalars are as they were typed (:mod:`carerl.config.reading.scalars`).
    Duplicate keys are refused.

    Raises ConfigError for a file that cannot be read, does not parse, or is not a mapping."""
    try:
        loaded = read_yaml_text(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), None, f"cannot be read: {error}", "check the file") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(str(path), None, f"not valid YAML: {reason}", "correct the file") from None
    if loaded is None or (isinstance(loaded, Plain) and not loaded):  # an empty file
        loaded = {}
    if not isinstance(loaded, dict) or not all(isinstance(k, str) for k in loaded):
        raise ConfigError(str(path), native(loaded), "a recipe is a mapping of keys to values", "correct the file")
    return {str(k): v for k, v in loaded.items()}


def read_file(name: str, asked_by: str = "recipe") -> Tree:
    """Reads the keys of a recipe's own file, ``extends`` and ``description`` included."""
    return read_yaml(find(name, asked_by))


def compose(name: str, asked_by: str = "recipe", scale: str = "") -> Tree:
    """Composes a recipe with everything that it extends. ``description`` is the file's own, never inherited. ``scale``:
    the file of ``scale/`` that takes the place of those that the recipe extends.

    Raises ConfigError under the field ``asked_by``, with the nearest name, when there is no such recipe."""
    name = str(name)
    path = find(name, asked_by).resolve()
    inside = next((path.relative_to(f.resolve()) for f in recipe_folders() if path.is_relative_to(f.resolve())), None)
    if inside is not None and len(inside.parts) > 1:
        raise ConfigError(
            asked_by,
            name,
            "a file in a sub-folder of recipes/ is a fragment for extends, not a whole recipe",
            suggestion(label(name), recipe_names()),
        )
    if inside is None and (other := _by_name(label(name))) is not None:
        reason = f"there is another recipe of this name, {other}, and runs are told apart by it"
        raise ConfigError(asked_by, name, reason, "rename your file")
    if scale:
        _check_scale(scale, name, _scales_of(name, asked_by))
    return _compose(name, asked_by, (), f"{SCALE}{scale}" if scale else "")


def fragment(name: str) -> Tree:
    """Composes a file of a sub-folder with everything that it extends, for a command that runs no recipe. Raises
    ConfigError."""
    return _compose(name, "recipe", ())


def _compose(name: str, asked_by: str, chain: tuple[str, ...], scale: str = "") -> Tree:
    if name in chain:
        raise ConfigError(
            asked_by, name, "extends goes in a circle: " + " -> ".join([*chain, name]), "break the circle"
        )
    own = read_file(name, asked_by)
    base = _compose_extends(own, name, (*chain, name), scale)
    base.pop("description", None)
    return merge(base, {k: v for k, v in own.items() if k != "extends"})


def _compose_extends(own: Tree, name: str, chain: tuple[str, ...], scale: str = "") -> Tree:
    """Composes what a file extends. ``scale``: what stands in the place of the files of ``scale/``, once; '' leaves
    them."""
    parents, asked_by = _parents(own, name), f"{name}: extends"
    first = next((parent for parent in parents if parent.startswith(SCALE)), "") if scale else ""
    tree: Tree = {}
    for parent in parents:
        if not parent.startswith(SCALE) or not scale:
            tree = merge(tree, _compose(parent, asked_by, chain, scale))
        elif parent == first:
            tree = merge(tree, _compose(scale, "scale", chain))
    return tree


def _parents(own: Tree, name: str) -> list[str]:
    parents = own.get("extends") or []
    if isinstance(parents, str):
        parents = [parents]
    if not isinstance(parents, list) or not all(isinstance(parent, str) for parent in parents):
        raise ConfigError(f"{name}: extends", native(parents), "extends is a list of names", "write extends: [a, b]")
    return [str(parent) for parent in parents]


def _scales_of(name: str, asked_by: str) -> list[str]:
    """Returns the files of ``scale/``, without the folder, that a recipe or what it extends names."""
    found = []
    for parent in _parents(read_file(name, asked_by), name):
        found += [parent.removeprefix(SCALE)] if parent.startswith(SCALE) else _scales_of(parent, f"{name}: extends")
    return found


def _check_scale(scale: str, name: str, own: list[str]) -> None:
    """Refuses a file of ``scale/`` that is not there, or not for this recipe. ``own``: the files that the recipe
    extends. Raises ConfigError."""
    names = scale_names()
    if scale not in names:
        reason = f"the recipes' folder {SCALE} has no file of this name"
        raise ConfigError("scale", scale, reason, suggestion(scale, names, "scale="))
    if not own:
        reason = f"recipe {label(name)} extends no file of {SCALE}, so there is nothing that it could replace"
        raise ConfigError("scale", scale, reason, "leave scale= out")
    use, uses = _use(scale), {_use(one) for one in own}
    if use not in uses:
        reason = f"by its name it is for {use}, and recipe {label(name)} is for {' and '.join(sorted(uses))}"
        fitting = [one for one in names if _use(one) in uses]
        raise ConfigError("scale", scale, reason, f"choose one of {', '.join(fitting)}, or leave scale= out")


def _use(scale: str) -> str:
    """Returns what a file of ``scale/`` is for, by its name: each kind sets what the recipes of another cannot have.

    >>> _use("tiny_decisions"), _use("8_gpus_finetune"), _use("16_gpus_rounds"), _use("1_gpu_24gb")
    ('the tiny world', 'supervised finetuning', 'rounds of preferences', 'RL of language models')
    >>> _use("tiny_rounds")
    'rounds of preferences in the tiny world'
    """
    if scale == "tiny_rounds":
        return "rounds of preferences in the tiny world"
    if scale.partition("_")[0] == "tiny":
        return "the tiny world"
    if scale.endswith("_finetune"):
        return "supervised finetuning"
    return "rounds of preferences" if scale.endswith("_rounds") else "RL of language models"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Lays ``over`` on top of ``base``; neither is changed. See the module's docstring for chosen sections."""
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
    return over_below(_one_model(base, over), over)


def _shared(config: type, before: type | None) -> set[str]:
    """Returns the settings that mean the same in two dataclasses: same name and same default. All if there was none
    before."""
    defaults, earlier = _defaults(config), _defaults(before) if before is not None else None
    return {name for name, value in defaults.items() if earlier is None or earlier.get(name, MISSING) == value}


def _defaults(config: type) -> dict[str, Any]:
    made = config()
    return {f.name: getattr(made, f.name) for f in fields(made)}


def _one_model(base: Tree, over: Mapping[str, Any]) -> Tree:
    """Drops an inherited ``model.base_recipe`` where ``model.path`` is given, and the other way round."""
    below, above = base.get("model"), over.get("model")
    if isinstance(below, dict) and isinstance(above, dict):
        for given, dropped in (("path", "base_recipe"), ("base_recipe", "path")):
            if above.get(given):
                below = {k: v for k, v in below.items() if k != dropped}
        base["model"] = below
    return base


def over_below(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        result[key] = over_below(below, value) if both and below is not None else value
    return result


def as_plugins(value: Any) -> list[str]:
    if value is None or (isinstance(value, Plain) and value.value is None):
        return []
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ConfigError("plugins", native(value), "plugins is a list of module names", "write plugins=[my_module]")
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
    """Yields (dotted key, value) of every leaf of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
