"""From the command line to a checked RunConfig, and from a RunConfig to a file and back.

    python -m carerl.run recipe=NAME key=value section.key=value ...

A value is taken as it was typed (``steps=20``, ``run_dir=0042``, ``resume=``); one that begins with a quote or a
bracket is YAML (``learner.optimizer.betas=[0.9,0.95]``). ``${other.key}`` repeats another setting's value,
``${oc.env:NAME}`` that of an environment variable (:mod:`carerl.config.reading.references`).
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from carerl.config.check.run import validate
from carerl.config.kinds import KINDS, Kind
from carerl.config.lengths import settle_prompt_room
from carerl.config.reading import compose
from carerl.config.reading.compose import Tree
from carerl.config.reading.paths import local
from carerl.config.reading.references import literal, refers, resolve
from carerl.config.reading.scalars import native, quoted_word, read_word, word_fault
from carerl.config.reading.typed import RETIRED, build, convert, plain
from carerl.config.rehearsal import FIELD, check_rehearsal, leave_real_run
from carerl.config.schema import RunConfig
from carerl.config.stored import NAMED_AGAIN, as_recipe, check_named, has_checkpoint
from carerl.config.tables import source_text
from carerl.errors import SURE, ConfigError, closest, nearest
from carerl.text.printable import printable

KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
LEARNER_ACTORS = (
    "backend",
    "ranks",
    "cpus_per_rank",
    "gpus_per_rank",
    "threads",
)  # how many there are and what they take
BASE_FORMAT = 1  # raise it when the same settings give another base model
AUTO = "auto"  # of resume: resume the run in run_dir, or start one there
# resumed with another value of one of these, a run would be another run
FIXED_ON_RESUME = (
    "kind", "scale", "rehearse", "seed", "prompts_per_step", "task", "algorithm", "regularizer", "reward", "decision",
    "anchor", "distillation", "model.path", "model.revision", "model.base_recipe", "model.base_overrides",
    "model.shape", "model.dtype", "learner.optimizer", "learner.schedule", "learner.compute_dtype", "learner.lora.rank",
    "learner.lora.alpha", "learner.lora.targets", "rollout.temperature", "rollout.max_new_tokens", "rollout.end_ids",
)  # fmt: skip


def load(argv: Sequence[str]) -> RunConfig:
    """Reads the settings that a command line asks for: composes, types and validates them.

    With ``resume=RUN_DIR`` the settings are those stored in RUN_DIR. The command line may change how the run is carried
    out (ranks, actors, display, evaluation, steps), not what is trained. ``run_dir=RUN_DIR resume=auto`` resumes the
    run if RUN_DIR holds a checkpoint and starts one there otherwise, so that one command serves every time.
    Raises ConfigError, whose ``str()`` is all that a person needs to see.
    """
    asked = parse(argv)
    if "extends" in asked:
        reason = "it is for recipe files: what a command line asks for comes after what its recipe extends"
        raise ConfigError("extends", native(asked["extends"]), reason, "write a recipe file of your own with it")
    if native(asked.get(FIELD)) is True:
        leave_real_run(asked)
    _settle(asked)
    if asked.get("resume") == AUTO:
        _take_what_is_there(asked)
    if asked.get("resume") not in (None, "", AUTO):
        return _load_resumed(asked)
    name = _recipe(asked)
    tree = _composed(name, asked)
    config = build(resolve(tree))
    config.recipe = compose.label(name)
    if config.does.command != Kind.command:
        reason = f"a run of this kind has a command of its own: {config.does.line}"
        raise ConfigError("kind", config.kind, reason, f"write {config.does.command}")
    refuse_record(config)
    settle_prompt_room(config)
    validate(config)
    if config.rehearse:
        check_rehearsal(config)
    if config.model.base_recipe:
        base_config(config)  # its settings are refused now, not when it is about to be trained
    return config


def _recipe(asked: Tree) -> str:
    """Takes the name of the recipe out of the tree. Raises ConfigError without one."""
    name = asked.pop("recipe", None)
    if not isinstance(name, str) or not name:
        names = compose.recipe_names()
        reason = "no recipe is given" if name in (None, "") else "it must be one name"
        raise ConfigError("recipe", native(name), reason, "start with recipe=NAME, one of " + ", ".join(names))
    return str(name)


def _scale(asked: Tree) -> str:
    """Returns the file of ``scale/`` that is asked for in place of the recipe's own; '' for none."""
    return convert(str, "scale", asked["scale"]) if "scale" in asked else ""


def _composed(name: str, asked: Tree) -> Tree:
    """Composes the recipe with what is asked for on top, and imports its plugins."""
    scale = _scale(asked)
    tree = compose.merge(as_recipe(compose.compose(name, scale=scale)), asked)
    if plugins := compose.as_plugins(tree.get("plugins")):
        compose.import_plugins(plugins)
        recipe = as_recipe(compose.compose(name, scale=scale))
        tree = compose.merge(recipe, asked)  # again, now that the plugins' choices are known
    if native(tree.get("resume")) not in (None, "", AUTO):
        reason = "a recipe says what a run does, and this one would resume a run"
        raise ConfigError("resume", native(tree["resume"]), reason, "take it out, and write resume= behind the command")
    return {**tree, "recipe": compose.label(name)}


def _settle(asked: Tree) -> None:
    """Replaces ``resume``, and ``run_dir`` where a run may be resumed there, by their text. Both decide what is read,
    and may refer to settings of the recipe. ``resume: auto`` in the recipe counts as asked for."""
    wanted = asked.get("resume")
    if wanted is None and isinstance(asked.get("recipe"), str) and asked["recipe"]:
        wanted = compose.compose(str(asked["recipe"])).get("resume")
    if wanted is None:
        return
    if refers(wanted):
        wanted = resolve({"resume": wanted})["resume"]
    resume = local("resume", convert(str, "resume", wanted))
    if resume != AUTO:
        if "resume" in asked:
            asked["resume"] = resume
        return
    asked["resume"] = AUTO
    if refers(asked.get("run_dir")) or ("run_dir" not in asked and asked.get("recipe")):
        tree = _composed(_recipe(dict(asked)), {k: v for k, v in asked.items() if k not in ("recipe", "resume")})
        asked["run_dir"] = resolve(tree).get("run_dir") or ""
    if asked.get("run_dir"):
        asked["run_dir"] = local("run_dir", convert(str, "run_dir", asked["run_dir"]))


def _take_what_is_there(asked: Tree) -> None:
    """Carries out ``resume=auto``: resumes the run in ``run_dir`` if it has a checkpoint. A run without one is left for
    the launcher to set aside. Raises ConfigError for a directory that holds something else."""
    folder = asked.get("run_dir")
    if not isinstance(folder, str) or not folder:
        reason = "resume=auto resumes the run in run_dir, and there is no run_dir"
        raise ConfigError("resume", AUTO, reason, "write run_dir=/shared/runs/NAME too, the same every time")
    place = Path(folder).expanduser()
    if has_checkpoint(place):
        asked["resume"] = str(place)
        asked.pop("run_dir")
    elif not (place / "config.yaml").is_file() and (
        place.is_file() or (place.is_dir() and any(path.name != ".lock" for path in place.iterdir()))
    ):
        raise ConfigError("run_dir", folder, "it holds something that is no run", "give another directory")


def _load_resumed(asked: Tree) -> RunConfig:
    folder = str(asked["resume"])
    stored_file = Path(folder) / "config.yaml"
    if not stored_file.is_file():
        reason = "the directory has no config.yaml" if Path(folder).is_dir() else "there is no such directory"
        raise ConfigError("resume", folder, reason, "give the directory of an earlier run")
    trusted_plugins = _refuse_unnamed(compose.read_yaml(stored_file), asked, folder)
    compose.import_plugins(trusted_plugins)
    stored = plain(read(stored_file))
    name = asked.pop("recipe", stored["recipe"])
    if not isinstance(name, str) or compose.label(name) != stored["recipe"]:
        reason = f"{folder} is a run of recipe {stored['recipe']}"
        raise ConfigError("recipe", native(name), reason, "leave recipe= out when resuming")
    given = asked.get("run_dir")
    if given and (not isinstance(given, str) or local("run_dir", str(given)) != folder):
        raise ConfigError("run_dir", native(given), "a resumed run goes on in its own directory", "leave run_dir= out")
    config = build(resolve(compose.merge(literal(stored), asked)))
    after = plain(config)
    for key in FIXED_ON_RESUME:
        if (new := _get(after, key)) != (old := _get(stored, key)):
            raise ConfigError(
                key,
                "none" if new == "" else new,
                f"the run in {folder} was started with {'none' if old == '' else old}, and with another value it would "
                "be another run",
                f"leave {key} out, or start a new run without resume=",
            )
    config.run_dir = folder
    validate(config)
    return config


def _refuse_unnamed(stored: Tree, asked: Tree, folder: str) -> list[str]:
    """Returns the plugins of a stored run, all of them named by the command or its recipe. Raises ConfigError if only
    the file asks for them, or for another setting of :data:`carerl.config.stored.NAMED_AGAIN`."""

    def named() -> Tree:
        recipe = asked.get("recipe")
        if not isinstance(recipe, str) or not recipe:
            return resolve(asked)
        return resolve(compose.merge(compose.compose(recipe, scale=_scale(asked)), asked))

    settings = _to_name(resolve(compose.merge(literal(resolve(stored, environment=False)), asked)))
    check_named(settings, lambda: _to_name(named()), folder)
    plugins: list[str] = settings["plugins"]
    return plugins


def _to_name(tree: Tree) -> Tree:
    """Converts only the settings of :data:`carerl.config.stored.NAMED_AGAIN` to their types. The other settings of a
    tree may need a plugin that is not imported yet."""
    found: Tree = {"plugins": compose.as_plugins(tree.get("plugins"))}
    for key in NAMED_AGAIN:
        section, _, name = key.partition(".")
        if name and isinstance(part := tree.get(section), dict) and name in part:
            kind = bool if key == "model.trust_remote_code" else str
            found.setdefault(section, {})[name] = convert(kind, key, part[name])
    return found


def refuse_record(config: RunConfig) -> None:
    """Refuses a setting that only a run itself writes. Raises ConfigError."""
    if config.rollout.end_ids:
        reason = "a run finds these tokens in the model's files and its chat template, and writes them down"
        raise ConfigError("rollout.end_ids", config.rollout.end_ids, reason, "leave it out")


def _get(tree: Mapping[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    return value


def parse(argv: Sequence[str]) -> Tree:
    """Reads ``key=value`` words into a nested dict; a later word wins over an earlier one of the same key."""
    tree: Tree = {}
    for word in argv:
        key, equals, text = word.partition("=")
        if not equals or not KEY.fullmatch(key):
            raise ConfigError(word, None, "a setting is written key=value, without spaces", _meant(word))
        try:
            word.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                ascii(word), None, "it is not UTF-8 text", "type it again, or set LC_ALL=C.UTF-8"
            ) from None
        try:
            value = read_word(text)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(key, text, f"not a YAML value: {word_fault(error)}", _in_quotes(key, text)) from None
        node = tree
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(key, text, f"{parent} was given as a single value before", "give one of them")
        node[last] = value
    return tree


def _in_quotes(key: str, text: str) -> str:
    """Returns the remedy for a word that begins like YAML and is not YAML."""
    if "${" in text and text.lstrip().startswith(("[", "{")):
        whole = re.sub(r"(\$\{[^{}]*\})", r'"\1"', text)
        return f"quote what it refers to: {shlex.quote(f'{key}={whole}')}"
    return f"close it, or quote it as text: {quoted_word(key, text)}"


def _meant(word: str) -> str:
    """Returns the remedy for a word without ``=``: it may be the name of a recipe, or nearly that of a setting."""
    key, equals, _ = word.partition("=")
    fields, recipes = list(RunConfig.__dataclass_fields__), compose.recipe_names()
    recipe, field = nearest(word, recipes, SURE), nearest(key.lstrip("-"), fields)
    if recipe and not equals and closest(word, [recipe]) > closest(word, fields):
        return f"write recipe={recipe}"
    return f"write {field}=..." if field else "see --help"


def dump(config: RunConfig) -> str:
    """Writes all settings as YAML, resolved; :func:`read` is its inverse."""
    return OmegaConf.to_yaml(OmegaConf.create(literal(plain(config))))


def _without_retired(tree: Tree, path: str | Path) -> Tree:
    """Removes settings that this version no longer has from those of a stored run, and says so. The run is resumed with
    today's defaults instead."""
    for key, reason in RETIRED.items():
        section, _, name = key.partition(".")
        if isinstance(found := tree.get(section), dict) and name in found:
            left_out = printable(f"{path}: {key} = {found.pop(name)} is left out: {reason}")
            print(left_out, file=sys.stderr, flush=True)
    return tree


def read(path: str | Path) -> RunConfig:
    """Reads the settings of a file that :func:`dump` wrote. Raises ConfigError for unknown keys or wrong types.

    Nothing is imported, whatever ``plugins`` says: a name that only a plugin knows is refused, unless the caller has
    imported the plugin."""
    tree = _without_retired(compose.read_yaml(Path(path)), path)
    try:
        config = build(resolve(tree, environment=False))
    except ConfigError as error:
        if plugins := compose.as_plugins(tree.get("plugins")):
            error.remedy += f"; or, if the plugins that {path} lists are yours, plugins=[{','.join(plugins)}]"
        raise
    settle_prompt_room(config)  # of a file from before the setting was
    return config


def base_config(config: RunConfig) -> RunConfig:
    """Returns the settings of the run that makes this run's base model: ``model.base_recipe`` with this run's task,
    seed, model shape and engine, then ``model.base_overrides``. Raises ConfigError."""
    name = config.model.base_recipe
    tree = compose.compose(name, "model.base_recipe")
    kind = KINDS.get(str(tree.get("kind", "")))
    if kind is None or not kind.makes_base:
        makers = " or ".join(name for name, kind in KINDS.items() if kind.makes_base)
        reason = f"it makes no base model: its kind is not {makers}"
        raise ConfigError("model.base_recipe", name, reason, "use base_tiny")
    own = {
        "seed": config.seed,
        **({"task": plain(config.task)} if "task" in kind.needs else {}),
        "model": {"shape": plain(config.model.shape), "dtype": config.model.dtype},
        "rollout": plain(config.rollout),
        # The run's own learner actors train it.
        "learner": {name: getattr(config.learner, name) for name in LEARNER_ACTORS},
        "plugins": list(config.plugins),
        "runs_dir": config.runs_dir,
        "tracking": {"display": config.tracking.display},
        "cluster": plain(config.cluster),
    }
    try:
        overrides = parse(config.model.base_overrides)
    except ConfigError as error:
        reason = f"{error.field}: {error.reason}"
        raise ConfigError("model.base_overrides", config.model.base_overrides, reason, error.remedy) from None
    set_here = [key for key, _ in compose.leaves(overrides)]
    for key in ("plugins", "cluster", "tracking.wandb", "model.path", "model.trust_remote_code"):
        if any(found == key or found.startswith(f"{key}.") for found in set_here):
            remedy = "leave it out of model.base_overrides, and write it as a setting of the run"
            raise ConfigError("model.base_overrides", key, "a base model is made with the run's own", remedy)
    return copy.deepcopy(_checked_base(name, resolve(compose.merge(compose.merge(tree, literal(own)), overrides))))


_LAST_BASE: dict[str, RunConfig] = {}  # by its resolved tree: a start asks for it up to seven times


def _checked_base(name: str, tree: Tree) -> RunConfig:
    """Builds and validates a base model's settings, or returns those of the last call for the same ones."""
    key = json.dumps([name, tree], default=str)
    if key not in _LAST_BASE:
        base = build(tree)
        base.recipe = name
        validate(base)
        _LAST_BASE.clear()
        _LAST_BASE[key] = base
    return _LAST_BASE[key]


def settings_key(settings: Any) -> str:
    """Returns 16 hex digits that depend on every value of a JSON-like tree, and not on the order of its keys."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def base_key(base: RunConfig) -> str:
    """Returns the cache key of the weights that a base recipe makes. It depends on the task (settings and source),
    shape, dtypes, optimizer, schedule, steps and seed. How the work is split (ranks, micro-batches, threads) is left
    out: it changes no gradient beyond rounding. For an untrained model it depends on shape, dtype and seed alone."""
    if not base.does.trains:
        made = {"format": BASE_FORMAT, "shape": plain(base.model.shape), "dtype": base.model.dtype, "seed": base.seed}
        return settings_key(made)
    learner, task = plain(base.learner), base.task
    made_by: type = type(task)
    return settings_key(
        {
            "format": BASE_FORMAT,
            "task": plain(task),
            "source": source_text(made_by),
            "shape": plain(base.model.shape),
            "dtypes": [base.model.dtype, base.learner.compute_dtype],
            "optimizer": learner["optimizer"],
            "schedule": learner["schedule"],
            "steps": base.steps,
            "seed": base.seed,
        }
    )


__all__ = [
    "base_config", "base_key", "dump", "load", "parse", "read", "resolve", "settings_key",
]  # fmt: skip
