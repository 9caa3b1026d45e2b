"""The actor that holds a rollout engine, and knows the version of its weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray

from carerl import progress
from carerl.actors.turns import Turns
from carerl.actors.workers.base import Worker, local_files
from carerl.actors.workers.engine_client import patience
from carerl.actors.workers.learner import fresh_model
from carerl.backends.engines import Query, Request
from carerl.backends.transfer.base import Sent
from carerl.backends.transfer.digest import DamagedWeights, Received
from carerl.config.roles import colocated
from carerl.config.schema import LoraConfig, RunConfig
from carerl.config.shapes import absolute_path
from carerl.config.transfer import transfer_kind
from carerl.types import Completion, Sampling


class StaleWeights(RuntimeError):
    """An engine was asked to generate with weights that it does not hold."""


class EngineWorker(Worker):
    """Holds an engine. ``_version``: the number of the weights in it; None while they are not whole. ``_turns``: whose
    turn it is on its GPU, if it shares one with a rank of the learner."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._built_with = ""
        self._version: int | None = None
        self._turns = Turns()
        self._model_dir, self._trusted, self._lora = "", False, LoraConfig()
        self._failure: Exception | None = None  # what ``prepare`` failed with: raised by ``load``
        self._weights_of = ""  # the directory whose weights the engine was built with; '' once others were sent
        self._shapes: dict[str, tuple[int, ...]] | None = None  # shapes of the tensors that a sync must bring
        self._patience = 3600.0  # seconds, until ``load`` knows the settings
        self._received: Received | None = None  # what came in the last sync, from its end on

    def prepare(self, config: RunConfig, base: RunConfig | None = None) -> None:
        """Does in advance what ``load`` spends most of its time on: imports, and building the engine. While a ``base``
        model is still to be trained, builds the engine with fresh weights of its shape, which a sync replaces: not for
        adapters, whose engine keeps the weights that it is built with. One that shares its GPU is put to sleep at once.
        """
        self._failure = None
        try:
            self._prepare(config, base)
        except Exception as error:
            self._failure = error  # not tried again: the first try may have left things, memory of a GPU for instance

    def _prepare(self, config: RunConfig, base: RunConfig | None) -> None:
        from carerl.backends.engines import ENGINES

        self.begin(config, config.rollout.threads, own=config.rollout.gpus_per_actor > 0)
        ENGINES[config.rollout.engine].prepare(config)
        place = absolute_path(config.model.path)
        if place and Path(place).is_dir():  # a model that must be fetched first is left to ``load``
            self._build(config, place)
        elif base is not None and base.does.trains_on_corpus and not config.learner.lora.rank:
            from carerl.backends.models import save_model

            with TemporaryDirectory() as folder:
                model = fresh_model(base)
                save_model(Path(folder), model.config, {n: p.detach() for n, p in model.named_parameters()}, None)
                self._build(config, folder)

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Builds the engine, unless one of the same settings and shape is there already. It generates nothing until the
        first sync (or :meth:`use_loaded`). One that shares its GPU sleeps. Raises what ``prepare`` failed with."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        model_dir = local_files(config, model_dir)
        self.begin(config, config.rollout.threads, own=config.rollout.gpus_per_actor > 0)
        if self._engine is not None:
            self._engine.cancel()  # requests that a failed run left
        self._build(config, model_dir)
        self._version, self._patience = None, patience(config)
        self._model_dir, self._trusted, self._shapes = model_dir, config.model.trust_remote_code, None
        self._lora = config.learner.lora

    def _build(self, config: RunConfig, model_dir: str) -> None:
        from carerl.backends.engines import ENGINES

        settings = {**vars(config.rollout), "end_ids": []}  # end ids go along with every request
        lora = config.learner.lora
        kept = [vars(lora), model_dir] if lora.rank else []  # no sync brings weights that adapters leave as they are
        facts = [settings, _shape(model_dir), config.model.dtype, transfer_kind(config), colocated(config), kept]
        built_with = json.dumps(facts, default=str)
        if built_with != self._built_with:
            self._engine, self._built_with = None, ""
            self._engine = ENGINES[config.rollout.engine].build(config, model_dir)
            self._turns = Turns(colocated(config))
            self._built_with, self._weights_of = built_with, model_dir
        if self._turns.shared:
            self.sleep()

    def use_loaded(self, version: int) -> None:
        """Takes the weights that the engine was just built with for those of ``version``. Raises StaleWeights."""
        if self._weights_of != self._model_dir:
            raise StaleWeights("the engine was built with the weights of another model, or of an earlier run")
        self._version = version

    def init_weight_transfer_engine(self, info: dict[str, Any]) -> None:
        """Prepares the engine to receive from the learner."""
        self._engine.init_transfer(info)

    def start_weight_update(self) -> None:
        """Begins a sync. Until :meth:`accept` the engine refuses to generate. Raises WrongTurn."""
        self._turns.check("sync")
        self._version, self._weights_of, self._received = None, "", None
        self._engine.start_update()

    def update_weights(self, info: dict[str, Any]) -> None:
        """Takes a part of the weights."""
        if "stored" in info:
            info = {**info, "stored": [_fetched(ref, self._patience) for ref in info["stored"]]}
        self._engine.update(info)
        progress.step()

    def finish_weight_update(self) -> None:
        """Ends a sync."""
        self._received = self._engine.finish_update()

    def accept(self, sent: Sent, version: int) -> None:
        """Calls the weights that came ``version`` from now on, and lets the engine generate.

        Raises DamagedWeights if they are not what was sent, IncompleteWeights if they are not all of the model's, or of
        its adapters.
        """
        from carerl.backends.lora import adapter_shapes
        from carerl.backends.models import parameter_shapes

        received = self._received
        if received is None:
            raise DamagedWeights(f"a sync to version {version} was not brought to its end")
        if self._shapes is None:
            model = self._model_dir, self._trusted
            self._shapes = adapter_shapes(self._lora, *model) if self._lora.rank else parameter_shapes(*model)
        received.check_complete(self._shapes)
        if received.digest != sent.digest:
            raise DamagedWeights(
                f"weights of version {version} arrived damaged: {received.digest:x}, not {sent.digest:x}"
            )
        self._version = version

    def sleep(self) -> None:
        """Has the engine give up its GPU's memory, its weights with it; does nothing if it sleeps."""
        if self._turns.due("sleep"):
            self._engine.sleep()
            self._version, self._weights_of, self._received = None, "", None
            self._turns.done("sleep")

    def wake_weights(self) -> None:
        """Has the engine take memory for weights, which a sync brings. Raises WrongTurn."""
        if self._turns.due("wake_weights"):
            self._engine.wake_weights()
            self._turns.done("wake_weights")

    def wake_cache(self) -> None:
        """Has the engine take the rest of its memory. Raises StaleWeights while weights are not whole, WrongTurn."""
        if self._turns.due("wake_cache"):
            if self._version is None:
                raise StaleWeights("wake_cache is refused: the engine's weights are not whole, call sync before")
            self._engine.wake_cache()
            self._turns.done("wake_cache")

    def submit(self, requests: list[Request], sampling: Sampling, version: int) -> None:
        """Queues prompts. Raises StaleWeights, WrongTurn."""
        self._check(version)
        self._engine.submit(requests, sampling)

    def next_logprobs(self, queries: list[Query], version: int) -> list[tuple[float, ...]]:
        """Returns for each query the log-probs of its tokens after its prefix. Raises StaleWeights, WrongTurn."""
        self._check(version)
        found: list[tuple[float, ...]] = self._engine.next_logprobs(queries)
        return found

    def likeliest(self, prefixes: list[tuple[int, ...]], k: int, version: int) -> list[list[tuple[int, float]]]:
        """Returns the ``k`` likeliest next tokens after each prefix. Raises StaleWeights, WrongTurn."""
        self._check(version)
        found: list[list[tuple[int, float]]] = self._engine.likeliest(prefixes, k)
        return found

    def _check(self, version: int) -> None:
        self._turns.check("generate")
        if self._version != version:
            raise StaleWeights(f"engine holds weights of version {self._version}, asked for {version}")

    def advance(self, steps: int) -> list[tuple[int, list[Completion]]]:
        """Decodes ``steps`` tokens of each sequence (0: until all have ended); returns what ended, with the numbers of
        its prompts. Raises WrongTurn."""
        self._turns.check("generate")
        ended: list[tuple[int, list[Completion]]] = self._engine.advance(steps)
        assert self._version is not None, "submit has checked it"
        versions = (self._version, self._version)
        return [(number, [replace(one, versions=versions) for one in completions]) for number, completions in ended]

    def cancel(self) -> None:
        """Forgets all prompts that have not ended."""
        self._engine.cancel()


def _fetched(ref: Any, seconds: float) -> Any:
    """Returns a bucket of weights. Raises GetTimeoutError: a node that is gone must not be waited for without end."""
    bucket = ray.get(ref, timeout=seconds)
    progress.step()
    return bucket


def _shape(model_dir: str) -> str:
    """Returns the text of a model's ``config.json``; its name if it has none here."""
    path = Path(model_dir) / "config.json"
    return path.read_text() if path.exists() else model_dir
