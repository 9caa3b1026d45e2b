"""The settings of ``python -m carerl.evaluate``: what a model is asked, and how.

Adapters are evaluated as the model that they make of their base, which is written once (:func:`merged_place`).

A model that was trained here brings its own: with ``model=`` a run (or a base model, or a checkpoint of a run) and no
``benchmarks=``, task, seed, engine and sampling are those of its evaluation in the loop, so that the same questions get
the same answers. Any other model gets those of ``recipes/evaluation/benchmarks.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from carerl.config.check.run import validate
from carerl.config.load import parse, read, refuse_record
from carerl.config.named_models import NAMED, near_name
from carerl.config.reading import compose
from carerl.config.reading.paths import local
from carerl.config.reading.references import literal, refers, resolve
from carerl.config.reading.scalars import native
from carerl.config.reading.typed import build, convert, plain
from carerl.config.schema import RunConfig
from carerl.config.shapes import looks_local, shape_from_directory, stored_dtype
from carerl.config.stored import newest_checkpoint
from carerl.config.stored_weights import ADAPTER
from carerl.config.sweep import differences
from carerl.errors import ConfigError
from carerl.tasks.benchmarks.config import TextConfig

DEFAULTS = "evaluation/benchmarks"
KIND = "evaluate"
SHORT = {
    "model": "model.path",
    "dtype": "model.dtype",
    "benchmarks": "task.benchmarks",
    "data": "task.data_dir",
    "samples": "evaluation.samples",
    "questions": "evaluation.questions",
    "temperature": "evaluation.temperature",
    "max_new_tokens": "rollout.max_new_tokens",
    "trace_swap": "evaluation.trace_swap",
    "engine": "rollout.engine",
    "out": "run_dir",
}
# of a run that a model comes from: what its evaluation in the loop depends on, and nothing that would import a module
# or join a cluster, as the directory may be a stranger's
KEPT = ("seed", "task", "rollout", "grading", "evaluation")
READ = (
    "model", "task", "rollout", "grading", "decode", "cluster", "seed", "plugins", "runs_dir", "run_dir",
    "tracking.display",
    *(f"evaluation.{key}" for key in ("samples", "temperature", "top_p", "top_k", "seed", "questions", "trace_swap")),
)  # fmt: skip
INSTEAD = {
    "recipe": "write model=, what is evaluated",
    "resume": "write out=, the same directory again",
    "dry_run": "leave it out: an evaluation has no plan",
    "rehearse": "leave it out, or rehearse the recipe: python -m carerl.run recipe=NAME rehearse=true",
}
# how the work is spread, which changes no answer: an evaluation may be resumed with other values of these
SPREAD = (
    "rollout.actors", "rollout.threads", "rollout.cpus_per_actor", "rollout.gpu_memory_utilization",
    "rollout.kv_cache_gib", "grading.actors", "grading.processes", "grading.cpus_per_actor", "cluster.", "tracking.",
    "decode.show",
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """Holds where a model is, what it is called, and the settings that it was trained under, if that was here."""

    path: str
    name: str
    trained_with: RunConfig | None = None


def evaluation_config(
    words: Sequence[str],
    fetch: Callable[[str], str] = lambda name: "",
    merge: Callable[[str, Path, str], str] = lambda adapters, place, dtype: adapters,
) -> RunConfig:
    """Reads the settings from the words of a command line. ``fetch`` returns the directory of a model that is not here
    yet (a name of ``named_models.py`` or a hub id); '' if it cannot tell. ``merge`` puts a directory of adapters and
    their base together in a place, in a dtype ('' for that of the base), and returns the directory.

    An evaluation that has not ended is resumed if ``out=`` names its directory (``resume`` is set). Raises
    ConfigError."""
    asked = parse([_long(word) for word in words])
    for key, value in compose.leaves(asked):
        known = key.partition(".")[0] in RunConfig.__dataclass_fields__  # what is not is refused with a suggestion
        if known and not any(key == read_ or key.startswith(f"{read_}.") for read_ in READ):
            raise ConfigError(key, native(value), "it is no setting of an evaluation", INSTEAD.get(key, "leave it out"))
    wanted = asked.setdefault("model", {}).pop("path", None)
    if refers(wanted):
        wanted = resolve({"model": {"path": wanted}})["model"]["path"]
    if not isinstance(wanted, str) or not wanted:
        raise ConfigError(
            "model", native(wanted), "there is no model to evaluate", "write model=DIR, a run or a hub id"
        )
    compose.import_plugins(compose.as_plugins(asked.get("plugins")))  # before what they name is read
    wanted = local("model", convert(str, "model", wanted))
    revision = convert(str, "model.revision", asked["model"].pop("revision", ""))
    if revision and (wanted in NAMED or looks_local(wanted)):
        raise ConfigError("model.revision", revision, "only a model of the hub has revisions", "leave it out")
    model = find_model(wanted, fetch if not revision else lambda name: fetch(f"{name}@{revision}"))
    if (Path(model.path) / ADAPTER).is_file():
        dtype = model.trained_with.model.dtype if model.trained_with else ""
        model = replace(model, path=merge(model.path, merged_place(model.path), dtype))
    task = asked.get("task")
    own = model.trained_with if not isinstance(task, dict) or not {"benchmarks", "name"} & set(task) else None
    if own is not None:
        stored = literal(plain(own))
        tree: dict[str, Any] = {key: stored[key] for key in KEPT}
        tree["rollout"].pop("end_ids")  # found again, in the export's own files
        tree["task"].pop("max_prompt_tokens", None)  # of training prompts
    else:
        tree = compose.fragment(DEFAULTS)
    fixed = {
        "kind": KIND,
        "description": "",
        "model": {"path": model.path, "dtype": own.model.dtype if own else stored_dtype(model.path)},
    }
    tree = compose.merge(compose.merge(tree, fixed), asked)
    if plugins := compose.as_plugins(tree.get("plugins")):
        compose.import_plugins(plugins)
    config = build(resolve({**tree, "recipe": model.name}))
    config.recipe = model.name
    refuse_record(config)
    if own is None:
        _fit(config, asked)
    return _gone_on_with(config)


def _long(word: str) -> str:
    key, equals, value = word.partition("=")
    return f"{SHORT[key]}={value}" if equals and key in SHORT else word


def as_typed(error: ConfigError, words: Sequence[str]) -> ConfigError:
    """Returns an error with each setting under its short name, where the short name was typed."""
    others = [as_typed(other, words) for other in error.others]
    for short, long in SHORT.items():
        if error.field == long and any(word.startswith(f"{short}=") for word in words):
            return ConfigError(short, error.value, error.reason, error.remedy.replace(f"{long}=", f"{short}="), others)
    return ConfigError(error.field, error.value, error.reason, error.remedy, others)


def find_model(wanted: str, fetch: Callable[[str], str]) -> Model:
    """Finds a run's newest checkpoint, a checkpoint's ``model``, a base model from the cache, or any other model.
    Raises ConfigError for a run without a checkpoint and for a directory that is not there."""
    if wanted in NAMED or not looks_local(wanted):
        return Model(fetch(wanted), wanted.rpartition("/")[2])
    place = Path(wanted).expanduser().absolute()
    if not place.is_dir():
        near = near_name(wanted)
        remedy = f"write model={near}" if near else "give a model's directory, a run, or a hub id"
        raise ConfigError("model", wanted, "there is no such directory", remedy)
    if (place / "carerl_base.yaml").is_file():
        made_by = read(place / "carerl_base.yaml")
        return Model(str(place), made_by.recipe, made_by)
    if (place / "config.yaml").is_file():
        newest = newest_checkpoint(place)  # `latest` may be one behind, where a run was killed
        if newest is None or not _is_model(newest / "model"):
            raise ConfigError("model", wanted, "the run has no checkpoint", "let it come to its first, or give another")
        trained_with = read(place / "config.yaml")
        return Model(str(newest.resolve() / "model"), trained_with.recipe, trained_with)
    inside = place / "model" if _is_model(place / "model") else place
    run = inside.parents[2] if len(inside.parents) > 2 else inside
    if inside.parent.parent.name == "checkpoints" and (run / "config.yaml").is_file():
        trained_with = read(run / "config.yaml")
        return Model(str(inside.resolve()), trained_with.recipe, trained_with)  # where `latest` and `best` lead to now
    return Model(str(inside), inside.name)


def _is_model(folder: Path) -> bool:
    """Returns whether a directory holds a model, or adapters of one."""
    return (folder / "config.json").is_file() or (folder / ADAPTER).is_file()


def merged_place(adapters: str) -> Path:
    """Returns where adapters and their base are put together: ``merged`` beside the adapters, or in the run that they
    are a checkpoint of. A checkpoint itself holds what its manifest lists and nothing else."""
    place = Path(adapters)
    if (place.parent / "manifest.json").is_file():
        return place.parents[2] / "merged" / place.parent.name
    return place / "merged"


def _fit(config: RunConfig, asked: dict[str, Any]) -> None:
    """Lowers lengths that were not given to what the model has room for."""
    context, given = shape_from_directory(config.model.path).context_length, asked.get("rollout") or {}
    if "max_model_len" not in given:
        config.rollout.max_model_len = min(config.rollout.max_model_len, context)
    if "max_new_tokens" not in given:
        config.rollout.max_new_tokens = min(config.rollout.max_new_tokens, config.rollout.max_model_len // 2)


def _gone_on_with(config: RunConfig) -> RunConfig:
    """Checks the settings. Sets ``resume`` where the directory holds the same evaluation already. Raises
    ConfigError."""
    stored = Path(config.run_dir).expanduser() / "config.yaml"
    if config.run_dir and stored.is_file():
        before = read(stored)
        if before.does.trains:
            raise ConfigError("out", config.run_dir, "it holds a run, and not an evaluation", "give another out=")
        differing = [d for d in differences(plain(config), plain(before)) if not d[0].startswith(SPREAD)]
        if differing:
            key, now, then = differing[0]
            reason = f"the evaluation in {config.run_dir} was begun with {key} = {then}"
            raise ConfigError(key, now, reason, "give another out=, or the same settings")
        config.resume = config.run_dir
        config.rollout.end_ids = before.rollout.end_ids
        if isinstance(config.task, TextConfig) and isinstance(before.task, TextConfig):
            config.task.hub_revisions = before.task.hub_revisions
    validate(config)
    return config
