"""The tiny world as a task: examples, suites, grading and metrics behind :class:`carerl.tasks.base.Task`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from carerl.types import Decision, Example, Group, Outcome, Sample, TokenBatch

from ..answers import AnswerSpan
from ..base import VALIDATION, Evaluation, Suite
from . import tokenizer as tk
from .anchors import SOURCES, anchor_prompts
from .config import TinyConfig
from .corpus import sft_batch
from .evaluation import evaluate
from .grading import ABSTENTION, answer_position, grade
from .questions import BLOCK, ETA, K_VALUES, MAX_QUESTIONS, Questions, drawn_golds, with_noise
from .steps import TinySplitter, step_labels
from .world import STREAM_GOLD, STREAM_TRAIN, STREAM_VALIDATION_GOLD, make_world, name_prompt, solve, stream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


class TinyTask:
    """Implements the tiny world as a task; see the package's docstring. ``seed`` changes the world, the data and the
    tie-breaks of votes.

    Raises ValueError for a ``train_k`` that the corpus does not hold, for a suite larger than its names, and for
    validation questions where the evaluation leaves none.
    """

    def __init__(self, config: TinyConfig, seed: int) -> None:
        if config.train_k not in K_VALUES:
            raise ValueError(f"task.train_k = {config.train_k}: the corpus holds k = 2, 3 and 4; use one of these")
        for field, asked, limit, why in (
            ("facts", config.evaluation_facts, config.entities, "task.entities"),
            ("unknown", config.evaluation_unknown, config.heldout, "task.heldout"),
            ("questions", config.evaluation_questions, MAX_QUESTIONS, "what leaves questions to train on"),
        ):
            if not 0 < asked <= limit:
                raise ValueError(f"task.evaluation_{field} = {asked}: must be 1 to {limit} ({why})")
        self.config = config
        self.seed = seed
        self._questions = Questions(seed, config.multiply)
        self.world = make_world(seed, config.entities, config.heldout)
        self.stop_ids = (tk.EOS,)
        self.vocab_size = tk.VOCAB_SIZE
        if not 0 <= config.validation_questions <= MAX_QUESTIONS:
            asked = config.validation_questions
            raise ValueError(f"task.validation_questions = {asked}: must be 0 to {MAX_QUESTIONS}")
        self._suites = self._make_suites()
        trained = next(suite for suite in self._suites if suite.primary)
        self._reserved = {example.prompt_ids for example in trained.examples}
        if config.validation_questions:
            held_out = self._questions.validation(config.validation_questions, config.train_k, self._reserved)
            if config.gold_noise:
                held_out = drawn_golds(stream(seed, STREAM_VALIDATION_GOLD), with_noise(held_out, config.gold_noise))
            self._suites.append(Suite(VALIDATION, tuple(held_out), max_new_tokens=trained.max_new_tokens))
            self._reserved |= {example.prompt_ids for example in held_out}

    needs_tokenizer = False

    def make_tokenizer(self) -> PreTrainedTokenizerFast:
        return tk.make_tokenizer()

    def attach(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Checks that ``tokenizer`` has this world's ids. Raises ValueError if not."""
        text = tk.decode(list(range(tk.VOCAB_SIZE)))
        ids = list(tokenizer.encode(text, add_special_tokens=False))
        if ids != list(range(tk.VOCAB_SIZE)) or tokenizer.eos_token_id != tk.EOS:
            raise ValueError(
                "the model's tokenizer is not the tiny world's (its 64 words do not encode to ids 0-63 with "
                "<eos> = 1); use a base model made by recipe=base_tiny"
            )

    def train_examples(self, start: int, n: int) -> list[Example]:
        """Returns questions of ``train_k`` operators that are in neither evaluation nor validation. They are drawn in
        blocks, each with its own generator."""
        first, last = start // BLOCK, (start + n - 1) // BLOCK
        drawn = [example for block in range(first, last + 1) for example in self._train_block(block)]
        return drawn[start - first * BLOCK :][:n]

    def _train_block(self, block: int) -> list[Example]:
        rng = stream(self.seed, STREAM_TRAIN, block)
        examples: list[Example] = []
        while len(examples) < BLOCK:
            examples += self._questions.unreserved(rng, self.config.train_k, self._reserved)
        found = [replace(example, id=f"train/{block * BLOCK + i}") for i, example in enumerate(examples[:BLOCK])]
        noise = self.config.gold_noise
        return drawn_golds(stream(self.seed, STREAM_GOLD, block), with_noise(found, noise)) if noise else found

    def sft_batch(self, step: int) -> TokenBatch:
        """Makes the supervised rows of one step, see :func:`carerl.tasks.tiny.corpus.sft_batch`."""
        return sft_batch(self.world, self.config, step)

    def target(self, example: Example) -> tuple[int, ...]:
        """Returns ``C d0 r1 .. rk A gold <eos>`` for a question: the careful chain, and the gold answer as it was
        drawn, whatever the chain came to."""
        start, *operators = example.prompt_ids[1:-1]
        results = solve(np.array([start - tk.DIGIT]), np.array([operators]) - tk.OPERATOR)[0]
        chain = (start, *(tk.DIGIT + int(result) for result in results))
        return (tk.CAREFUL, *chain, tk.ANSWER, tk.IDS[example.gold], tk.EOS)

    def training_size(self) -> None:
        """Returns None: questions never end."""
        return None

    def traces(self, n: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Returns the first ``n`` training questions with their :meth:`target`."""
        return [(example.prompt_ids, self.target(example)) for example in self.train_examples(0, n)]

    def grade(self, example: Example, response_ids: Sequence[int], truncated: bool) -> tuple[Outcome, str | None]:
        """Grades the answer token, see :func:`carerl.tasks.tiny.grading.grade`."""
        return grade(example.gold, response_ids, truncated)

    def decision(self, example: Example, sample: Sample) -> Decision | None:
        """Finds the digit that a response to a question of ``train_k`` operators decides for; None in a world without
        noise, and for a response whose answer is no digit."""
        position = answer_position(sample.response_ids) if ETA in example.meta else None
        if position is None or sample.response_ids[position] == tk.UNKNOWN:
            return None
        chosen = tk.TOKENS[sample.response_ids[position]]
        return Decision(position, chosen, *self.options(example))

    def options(self, example: Example) -> tuple[Mapping[str, int], tuple[str, ...]]:
        """Returns the tokens of the ten digits and the gold answer; nothing in a world without noise, and for names."""
        if ETA not in example.meta:
            return {}, ()
        return {digit: tk.IDS[digit] for digit in tk.DIGITS}, (example.gold,)

    def answer_span(self, example: Example, sample: Sample) -> AnswerSpan | None:
        """Finds the answer token behind the first ``A``, which marks it."""
        position = answer_position(sample.response_ids)
        return None if position is None else AnswerSpan(position - 1, position, position + 1)

    def anchor_prompts(self, source: str, start: int, n: int) -> list[tuple[int, ...]]:
        """Returns prompts of a source for anchors, see :mod:`carerl.tasks.tiny.anchors`."""
        return anchor_prompts(self.world, self.config, source, start, n)

    def anchor_sources(self) -> tuple[str, ...]:
        return tuple(SOURCES)

    def splitter(self) -> TinySplitter:
        """Returns what cuts a response into steps, see :mod:`carerl.tasks.tiny.steps`."""
        return TinySplitter()

    def step_labels(self, example: Example, response_ids: Sequence[int]) -> tuple[bool | None, ...]:
        """Returns a label for each step, see :func:`carerl.tasks.tiny.steps.step_labels`."""
        return step_labels(example, response_ids)

    def response_text(self, response_ids: Sequence[int]) -> str:
        """Returns the words, with spaces between them."""
        return " ".join(tk.TOKENS[i] for i in response_ids if i not in (tk.PAD, tk.EOS))

    def suites(self) -> list[Suite]:
        """Returns ``q<train_k>`` (primary), the other two k, ``facts`` (known names), ``unknowable`` (held-out names)
        and, if asked for, ``validation`` (questions of ``train_k``)."""
        return list(self._suites)

    def evaluate(self, results: Mapping[str, Sequence[Group]]) -> Evaluation:
        """Computes the metrics of :mod:`carerl.tasks.tiny.evaluation`."""
        return evaluate(self.world, self.config.train_k, self.seed, results)

    def _make_suites(self) -> list[Suite]:
        suites = []
        trained = self.config.train_k
        for k in (trained, *(k for k in K_VALUES if k != trained)):
            questions = self._questions.evaluation(self.config.evaluation_questions, k)
            if k == trained and self.config.gold_noise:
                questions = with_noise(questions, self.config.gold_noise)
            suites.append(Suite(f"q{k}", tuple(questions), primary=k == trained, max_new_tokens=k + 5))
        facts = tuple(
            Example(
                f"facts/{entity}",
                name_prompt(self.world.entities_E3[entity]),
                str(int(self.world.truth_EV[entity].argmax())),  # the likeliest answer
                {"entity": entity},
            )
            for entity in range(self.config.evaluation_facts)
        )
        unknowable = tuple(
            Example(f"unknowable/{i}", name_prompt(self.world.heldout_H3[i]), ABSTENTION)
            for i in range(self.config.evaluation_unknown)
        )
        return [
            *suites,
            Suite("facts", facts, max_new_tokens=3),
            Suite("unknowable", unknowable, max_new_tokens=3),
        ]
