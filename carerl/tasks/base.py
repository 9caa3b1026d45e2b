"""Defines what a task is: examples, prompts, grading, and the metrics of its evaluation suites.

Prompts and responses are token ids on both sides. Text is only for people to read; it is never tokenised again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from carerl.anchors import AnchorConfig
from carerl.calibration import ReliabilityBin
from carerl.metrics import Metric, declare
from carerl.metrics.table import SUITE_LABELS
from carerl.metrics.table import VALIDATION as VALIDATION  # many that know tasks look for it here
from carerl.records.splitting import Splitter
from carerl.settings import Settings
from carerl.tasks.answers import AnswerSpan
from carerl.types import Decision, Example, Group, Outcome, Sample, TokenBatch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LOOKED_AT = 8  # times a pool of anchors: prompts of a source among which different ones are sought
QUESTION = "question"  # in Example.meta of a text: the bare question, without the words around it in the prompt
ASKS_CONFIDENCE = "asks_confidence"  # in Example.meta, and true: the prompt asks for a stated confidence


@dataclass
class TaskConfig(Settings):
    """The settings of every task. A property here is what a task has that does not make a field of it."""

    name: str

    @property
    def rows_per_step(self) -> int:
        """Rows of one step of the corpus for supervised training; 0 for a task without a corpus."""
        return 0

    @property
    def vocabulary(self) -> int:
        """Tokens of a vocabulary of the task's own; 0 for a task that takes the model's tokenizer."""
        return 0

    @property
    def writes_text(self) -> bool:
        """True if responses are text, in which a form or a stated confidence can stand."""
        return True

    @property
    def has_decisions(self) -> bool:
        """False where no question has closed options between which a decision could be trained."""
        return True

    @property
    def ask_confidence(self) -> bool:
        """True if prompts ask for a stated confidence, or the settings do not say."""
        return True

    @property
    def max_prompt_tokens(self) -> int:
        """Tokens of the longest training prompt that is kept; 0 where none is dropped."""
        return 0

    @property
    def validation_questions(self) -> int | None:
        """Training questions held out as the suite ``validation``; None where the settings do not say."""
        return None


@dataclass(frozen=True)
class Suite:
    """Holds an evaluation set in a fixed order. Its first n examples are a fair subset.

    ``primary`` marks the suite of the headline metrics. ``max_new_tokens`` is the least that a full answer needs; the
    limit used should not be lower. None: the run's own limit fits. ``too_long`` counts examples that were removed
    because their prompts leave no room for an answer.
    """

    name: str
    examples: tuple[Example, ...]
    primary: bool = False
    max_new_tokens: int | None = None
    too_long: int = 0


@dataclass(frozen=True)
class Evaluation:
    """Holds the metrics of the graded samples of all suites.

    ``metrics``: name -> number. ``reliability``: diagram name -> bins. ``rows``: one dict for each question (plain JSON
    values), in the order of the suites. ``intervals``: metric -> bounds of its 95 % interval over questions, where it
    has one.
    """

    metrics: dict[str, float]
    reliability: dict[str, list[ReliabilityBin]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


class Task(Protocol):
    """Describes what a run needs of a task, which is built from its config and the run's seed."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end a response. Known only after :meth:`attach` where the tokenizer is the model's."""
        ...

    @property
    def vocab_size(self) -> int:
        """The size of the task's own vocabulary, or of the attached tokenizer."""
        ...

    @property
    def needs_tokenizer(self) -> bool:
        """True if examples and grading need :meth:`attach` first; False for a task that owns its tokenizer."""
        ...

    def make_tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Makes the tokenizer of a task that owns one; returns None for any other task."""
        ...

    def attach(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Takes the model's tokenizer. Raises ValueError if it cannot serve this task."""
        ...

    def train_examples(self, start: int, n: int) -> list[Example]:
        """Returns positions ``start`` to ``start + n - 1`` of an endless sequence. The sequence depends on the seed
        alone, not on how it is cut."""
        ...

    def grade(self, example: Example, response_ids: Sequence[int], truncated: bool) -> tuple[Outcome, str | None]:
        """Returns the outcome of a response, and the answer read from it (None if there is none). Sees the response and
        the gold answer, never the prompt, so that nothing in the prompt can earn credit."""
        ...

    def response_text(self, response_ids: Sequence[int]) -> str:
        """Decodes a response for people, without special tokens. Rewards for form and stated confidence read this
        text."""
        ...

    def suites(self) -> list[Suite]:
        """Returns the evaluation suites in a fixed order."""
        ...

    def evaluate(self, results: Mapping[str, Sequence[Group]]) -> Evaluation:
        """Computes the metrics of graded samples, N for each example. A suite that is missing from ``results`` has no
        metrics. Raises ValueError if a sample was not graded."""
        ...


@runtime_checkable
class SupervisedTask(Task, Protocol):
    """A task with a corpus of its own, which can train a base model."""

    def sft_batch(self, step: int) -> TokenBatch:
        """Returns the supervised rows of one step, a pure function of (seed, step)."""
        ...


@runtime_checkable
class TaughtTask(Task, Protocol):
    """A task whose training questions have responses to learn from."""

    def target(self, example: Example) -> tuple[int, ...]:
        """Returns the response to learn for a training question, token ids with the end token. Its grader finds it
        correct, if the gold answer is the true one."""
        ...


@runtime_checkable
class DecisionTask(Task, Protocol):
    """A task with questions that have closed options."""

    def decision(self, example: Example, sample: Sample) -> Decision | None:
        """Finds the token of a graded response that names an option; None if there is none."""
        ...

    def options(self, example: Example) -> tuple[Mapping[str, int], tuple[str, ...]]:
        """Returns a token for each option of a question by its label, and the labels of the right options. Both are
        empty for a question without options, or with one that no token spells."""
        ...


@runtime_checkable
class AnchorTask(Task, Protocol):
    """A task that has prompts for anchors (:mod:`carerl.anchors`)."""

    def anchor_sources(self) -> tuple[str, ...]:
        """Returns the names of the sources that it has by itself."""
        ...

    def anchor_prompts(self, source: str, start: int, n: int) -> list[tuple[int, ...]]:
        """Returns positions ``start`` to ``start + n - 1`` of a source's endless sequence of prompts, token ids. The
        sequence depends on the seed alone, not on how it is cut. None of them is a prompt of an evaluation suite.
        Raises ValueError for a source that cannot be used."""
        ...


@runtime_checkable
class SplitsSteps(Task, Protocol):
    """A task whose responses have steps of its own. Those of any other task end at a delimiter of the text
    (:func:`carerl.inference.steps.for_tokenizer`)."""

    def splitter(self) -> Splitter:
        """Returns what cuts a response into steps."""
        ...


@runtime_checkable
class ChecksSteps(SplitsSteps, Protocol):
    """A task that knows of each step of a response whether it is right."""

    def step_labels(self, example: Example, response_ids: Sequence[int]) -> tuple[bool | None, ...]:
        """Returns a label for each step that :meth:`splitter` cuts: True if the step is right, given
        that all before it are. None after the first wrong step, and for a step that the length limit cut."""
        ...


@runtime_checkable
class AnswersTask(Task, Protocol):
    """A task whose responses say their answers in tokens that can be found."""

    def answer_span(self, example: Example, sample: Sample) -> AnswerSpan | None:
        """Returns where a response says the answer that its grader reads; None where it says none, or not in a form
        that is looked for."""
        ...


@runtime_checkable
class TracesTask(Task, Protocol):
    """A task that has labelled traces: responses to learn for some of its training questions."""

    def training_size(self) -> int | None:
        """Returns how many training questions there are; None if they never end."""
        ...

    def traces(self, n: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Returns prompt and response of the first ``n`` training questions, token ids, as far as there is a right
        one."""
        ...


def prompts_at(task: AnchorTask, anchor: AnchorConfig, first: int, n: int) -> list[tuple[int, ...]]:
    """Returns the prompts of a run's anchors at positions ``first`` to ``first + n - 1``. Those of a pool come again
    and again, in its order; all are different, and fewer where the source has fewer. Raises ValueError for a source
    that cannot be used."""
    if not anchor.pool:
        return task.anchor_prompts(anchor.source, first, n)
    own = list(dict.fromkeys(task.anchor_prompts(anchor.source, 0, LOOKED_AT * anchor.pool)))[: anchor.pool]
    return [own[position % len(own)] for position in range(first, first + n)]


def no_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns nothing: every metric of a suite has the suite in its name."""
    return {}


@dataclass(frozen=True)
class TaskEntry:
    """Holds one line of the table: the Config dataclass, the function that builds the task, and one line for
    ``--help``.

    ``metrics``: the task's own, which making the entry declares; ``suites``: what its suites are called. Metrics of
    suites are named ``eval/{suite}/…`` and ``calibration/{suite}/…``. ``suite_names`` gives such a name for each metric
    that has a plain one instead; it is called with the task's settings as a mapping. So is ``trained_suites``, which
    gives the suites that are in domain: of the data that the task trains on. Empty: it trains on none, or cannot say.
    """

    config: type
    build: Callable[[Any, int], Task]
    line: str
    metrics: tuple[Metric, ...] = ()
    suites: Mapping[str, str] = field(default_factory=dict)
    suite_names: Callable[[Mapping[str, Any]], Mapping[str, str]] = no_names
    trained_suites: Callable[[Mapping[str, Any]], frozenset[str]] = lambda settings: frozenset()

    def __post_init__(self) -> None:
        declare(*self.metrics)
        SUITE_LABELS.update(self.suites)


def check_graded(results: Mapping[str, Sequence[Group]]) -> None:
    """Raises ValueError if a group is empty or a sample has no outcome."""
    for name, groups in results.items():
        for group in groups:
            if not group.samples:
                raise ValueError(f"suite {name}: {group.example.id} has no samples")
            if any(sample.outcome is None for sample in group.samples):
                raise ValueError(f"suite {name}: {group.example.id} has samples that were not graded")
