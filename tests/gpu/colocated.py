"""Whole runs on one card that an engine and a rank of the learner use in turns: three steps each, with drawn weights.

A case is a recipe at its real shape, with ``scale=1_gpu_80gb``: the run's own settings, plan, Ray, actors, vLLM,
learner and transfer. Only what needs a network is another: weights are drawn on the card and written to a directory,
and the task is :mod:`tests.gpu.drawn_task`. Prompts and responses have one length, so that each step is the largest
that the plan counts with. On a larger card the engine takes as much memory as it would take of one of 80 GB.

A toy run is the rehearsal's cut of the same settings, on the CPU.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from carerl.config.check.run import validate
from carerl.config.load import load
from carerl.config.plan.cards import card_of
from carerl.config.plan.memory import actor_memory
from carerl.config.plan.peaks import NEAR, Peak
from carerl.config.plan.resident import resident_parts
from carerl.config.plan.shared import shared_moments
from carerl.config.rehearsal import rehearsed
from carerl.config.roles import actor_groups
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape
from carerl.controller import launch
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.preparation import prepare, with_end_ids
from carerl.controller.session import staffed
from carerl.loss.parity import limits_for
from carerl.tracking.display import QuietDisplay
from tests.gpu.hardware import GIB, QWEN_0_5B, QWEN_1_5B, QWEN_7B, TOY, TOY_MODEL, drawn_directory, qwen_config
from tests.gpu.limits import Batch, Limits, decode_limit, measured, update_flop
from tests.gpu.report import Report

STEPS = 3
PROMPT, RESPONSE = 512, 512  # tokens: the recipes' own would take three times as long
TOY_PROMPT = 8
MOST_SYNC, TOY_SYNC = 0.5, 60.0  # s, from the first tensor that is sent to the last engine that has all
NEVER = 1e3  # nats: a gap that is too large is a bar missed, and does not end the run
TURNS = ("sleep", "wake_weights", "wake_cache")
CALLS = ("sync", *TURNS)  # of the engines, which are timed
STAGES = ("time/train", "time/generate")
EVERY_S = 0.05  # between two looks at the card
FREE, FREED_S = 0.95, 30.0  # of the card, and how long a case before this one may take to go


@dataclass(frozen=True)
class Case:
    """A run to be measured. ``goal``: of the card's product rate in the learner's updates. ``words``: more settings."""

    recipe: str
    shape: dict[str, Any]
    prompts: int  # a step
    goal: float
    words: tuple[str, ...] = ()


LORA = ("learner.lora.rank=32", "learner.lora.alpha=64", "learner.lora.export=adapter", "learner.optimizer.lr=1e-5")


def run(report: Report, case: Case) -> None:
    """Carries out a case. An error that ends it is a row too."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            _run(report, case, Path(folder))
    except Exception as error:
        report.failed("failed with", f"{type(error).__name__}: {error}"[:1000])
        raise  # so that the end of the log is shown


run_0_5b = partial(run, case=Case("care_grpo_0_5b", QWEN_0_5B, 24, 0.35))
run_1_5b = partial(run, case=Case("care_grpo_1_5b", QWEN_1_5B, 12, 0.45))
run_7b = partial(run, case=Case("care_grpo_7b", QWEN_7B, 4, 0.55, LORA))


def _run(report: Report, case: Case, folder: Path) -> None:
    wait_for_card()
    limits = measured()
    report.tell("measured TFLOP/s in bfloat16, and TB/s read and written", (limits.flops / 1e12, limits.bytes / 1e12))
    begun = time.monotonic()
    gib = 0.0 if TOY else torch.cuda.mem_get_info()[1] / GIB
    drawn_directory(qwen_config(case.shape if gib else TOY_MODEL), folder / "model")
    report.tell("drawing and writing the weights, s", time.monotonic() - begun)
    config = settings(case, folder, gib)
    prepared = prepare(config, config.model.path)
    config = with_end_ids(config, prepared[0], config.model.path)
    display = Steps(report, config, limits, case.goal)
    begun = time.monotonic()
    with CardWatch() as card, StopFlag() as stop, staffed(config, display, stop) as actors:
        report.tell("Ray and the engine there after, s", time.monotonic() - begun)
        with timed(actors.engines) as display.seconds:
            result = launch.run(config, actors, config.model.path, display, stop, prepared)
        report.equal("the run", result.status, "completed")
        report.tell("the whole run, s", time.monotonic() - begun)
        tell_memory(report, config, actors.peaks(), card.peak_gib)


def settings(case: Case, folder: Path, gib: float) -> RunConfig:
    """Returns the settings of a case's run, whose model is in ``folder``. ``gib``: of the card; 0 for a toy run. Raises
    ConfigError."""
    prompt, vocabulary = (PROMPT, case.shape["vocab_size"]) if gib else (TOY_PROMPT, TOY_MODEL["vocab_size"])
    config = load(
        [
            f"recipe={case.recipe}", "scale=1_gpu_80gb", f"steps={STEPS}", f"prompts_per_step={case.prompts}",
            "plugins=[tests.gpu.drawn_task]", "task.name=drawn", f"task.prompt_tokens={prompt}",
            f"task.tokens={vocabulary}", f"model.path={folder / 'model'}", f"runs_dir={folder / 'runs'}",
            f"rollout.max_new_tokens={RESPONSE}", f"rollout.max_model_len={prompt + RESPONSE}",
            "evaluation.every=0", "evaluation.at_start=false", "evaluation.at_end=false",
            "tracking.wandb=off", "tracking.rollouts_every=0", "tracking.display=quiet",
            "sync.probe_every=1", f"sync.probe_mean_abort={NEVER}", f"sync.probe_q999_abort={NEVER}",
            f"sync.mismatch_mean_abort={NEVER}", f"sync.mismatch_q999_abort={NEVER}", *case.words,
        ]
    )  # fmt: skip
    if not gib:
        return rehearsed(config)
    fit_card(config, gib)
    validate(config)
    return config


def fit_card(config: RunConfig, gib: float) -> None:
    """Has the plan count with a card of ``gib``, and an engine take no more of it than of the card that the recipe is
    for, whose other figures stay."""
    config.rollout.gpu_memory_utilization *= min(1.0, card_of(config).memory_gib / gib)
    config.cluster.gpu_memory_gib = gib


class Steps(QuietDisplay):
    """Writes rows as soon as a step is done. A display, so that the run itself calls it.

    ``seconds``: what each of :data:`CALLS` has taken so far, see :func:`timed`."""

    def __init__(self, report: Report, config: RunConfig, limits: Limits, goal: float) -> None:
        self._report, self._config, self._limits = report, config, limits
        self._on_gpu = config.learner.gpus_per_rank > 0
        self._goal, self._most = (goal, MOST_SYNC) if self._on_gpu else (0.0, TOY_SYNC)
        self._best = [0.0, 0.0]  # shares of the limits: update and sampling
        self.seconds: Mapping[str, list[float]] = {}

    def message(self, text: str) -> None:
        """Prints it: the end of a failed section's log is shown."""
        print(text, flush=True)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tells a step's seconds, gaps and rates; after the last one the best shares of the card's limits."""
        config, report = self._config, self._report
        self._tell_sync(f"step {step}:", metrics)
        rows = config.prompts_per_step * config.algorithm.group_size
        responses, update, sampling = (metrics[name] for name in ("rollout/generated_tokens", *STAGES))
        batch = Batch(rows, config.task.prompt_tokens, responses / rows)
        report.tell(f"step {step}: update, s, and tokens a second", (update, batch.tokens / update))
        report.tell(f"step {step}: sampling, s, and response tokens a second", (sampling, responses / sampling))
        report.tell(f"step {step}: all of it, s", metrics["time/step"])
        shape = effective_shape(config)[0]
        at_once = Batch(min(rows, config.rollout.max_batch_rows), batch.prompt, batch.response)
        found = (
            update_flop(config, shape, batch) / update / self._limits.flops,
            responses / sampling / decode_limit(config, shape, at_once, self._limits.bytes),
        )
        self._best = [max(pair) for pair in zip(self._best, found, strict=True)]
        if step == config.steps:
            report.at_least("best update: share of the card's own product rate", self._best[0], self._goal)
            report.tell("best sampling: share of what the card's own bandwidth allows", self._best[1])

    def _tell_sync(self, when: str, metrics: Mapping[str, float]) -> None:
        report, taken = self._report, {name: seconds[-1] for name, seconds in self.seconds.items()}
        report.at_most(f"{when} weight sync, s", taken["sync"], self._most)
        report.tell(f"{when} {', '.join(TURNS)}, s", [taken[call] for call in TURNS])
        most = limits_for((self._config.model.dtype, self._config.learner.compute_dtype), on_gpu=self._on_gpu)
        report.at_most(f"{when} mean |engine - learner| after it, nats", metrics["sync/probe_mean"], most.mean)
        report.at_most(f"{when} 99.9 % of |engine - learner| after it, nats", metrics["sync/probe_q999"], most.q999)
        report.tell(f"{when} mean |engine - learner| of what was trained, nats", metrics["rollout/mismatch_mean"])


def tell_memory(report: Report, config: RunConfig, peaks: Mapping[str, Peak], card_gib: float) -> None:
    """Holds what actors and card had at their peaks, checkpoint included, to what the plan says. ``peaks``: by role and
    number. ``card_gib``: of all processes together; 0 without a card."""
    shape = effective_shape(config)[0]
    for group in actor_groups(config):
        peak, planned = peaks[f"{group.role} 0"], sum(resident_parts(config, shape, group.role).values())
        report.near(f"{group.role}: peak main memory, GiB, and planned", peak.resident, planned, NEAR)
        if peak.reserved:
            on_card = sum(actor_memory(config, shape, (group,))[group.role].values())
            report.near(f"{group.role}: peak tensors on the card, GiB, and planned", peak.allocated, on_card, NEAR)
            report.tell(f"{group.role}: fragmentation, GiB", peak.fragmentation)
    if card_gib:
        planned = max(moment.total for moment in shared_moments(config, shape))
        report.near("card: peak of all processes, GiB, and planned", card_gib, planned, NEAR)


@contextmanager
def timed(engines: Any) -> Iterator[dict[str, list[float]]]:
    """Times every call of :data:`CALLS` of a run's engines inside the block. Yields the seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in CALLS}

    def clocked(call: Callable[..., Any], taken: list[float]) -> Callable[..., Any]:
        def made(*arguments: Any, **named: Any) -> Any:
            begun = time.monotonic()
            found = call(*arguments, **named)
            taken.append(time.monotonic() - begun)
            return found

        return made

    with ExitStack() as patches:
        for name, taken in seconds.items():
            patches.enter_context(patch.object(engines, name, clocked(getattr(engines, name), taken)))
        yield seconds


class CardWatch:
    """Watches inside the block how much of the card is taken, by all processes, beyond what is taken at its begin."""

    def __init__(self) -> None:
        self.peak_gib = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CardWatch:
        if not TOY:
            self._before = torch.cuda.mem_get_info()[0]
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if not TOY:
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.peak_gib = max(self.peak_gib, (self._before - torch.cuda.mem_get_info()[0]) / GIB)


def wait_for_card() -> None:
    """Waits until the processes of a case that was killed have given the card back, but not for ever."""
    deadline = time.monotonic() + FREED_S
    while not TOY and time.monotonic() < deadline:
        free, total = torch.cuda.mem_get_info()
        if free > FREE * total:
            return
        time.sleep(1.0)
