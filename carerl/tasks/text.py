"""A task over text: asks the questions of data sets through the model's tokenizer, and grades with their graders.

Training questions come from one data set, evaluation suites from others. A suite has the name of its data set.

[ours] An epoch's order is a permutation from (seed, epoch), and epochs follow each other without a gap. A question that
supervised finetuning leaves out is skipped, so that the others keep the order of RL. Evaluation questions are shuffled
once, by a fixed seed that is not the run's, so that the first n are a fair subset and the same in every run. Validation
questions are drawn from the training set by that seed too.

[ours] Training questions that overlap an evaluation prompt are dropped or refused
(:mod:`~carerl.tasks.rows.decontamination`); those that overlap a validation question are always dropped. Questions
whose prompt has more than ``task.max_prompt_tokens`` tokens are dropped last, so that neither the validation set nor
the choice of ``task.train_questions`` depends on a model's vocabulary. Those are the next ones behind the validation
questions in the fixed order: the same for every seed, and a larger number adds to a smaller one. Suites keep every
question: the caller decides which of them fit a model's context (:func:`carerl.config.lengths.asked`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from carerl.calibration import blanked_statement, without_statement
from carerl.grading import GRADERS, Verdict
from carerl.grading.decision import decision_search, spellings
from carerl.grading.places import answer_place
from carerl.grading.pool import GraderPool, Job
from carerl.grading.votes import vote
from carerl.tasks.benchmarks.config import CONFIDENCE, CONFIDENCE_TAG, DECONTAMINATE, TextConfig
from carerl.tasks.benchmarks.table import find_benchmark
from carerl.tasks.rows.decontamination import Overlap
from carerl.tasks.rows.questions import Question
from carerl.tasks.taught import TaughtRows, taught_rows
from carerl.types import Decision, Example, Group, Outcome, Sample

from . import text_evaluation
from .answers import AnswerSpan, token_span
from .base import ASKS_CONFIDENCE, QUESTION, VALIDATION, Evaluation, Suite
from .chat_templates import has_thinking_switch
from .end_of_turn import end_of_turn
from .prompts import Prompt, PromptEncoder, PromptLengths, prompt_encoder, prompt_lengths
from .text_anchors import MEASURED, RANDOM, places, random_prompts
from .text_data import TextData, shuffled

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_STREAM_ORDER = 0
PROBE = r"Find $\frac{1}{2} + 3$. \boxed{7}"


class TextTask:
    """Implements :class:`~carerl.tasks.base.Task` over text; see the module's docstring.

    Data is read when it is first needed, so that a plan needs none. An evaluation without validation questions never
    reads training data.
    """

    needs_tokenizer = True

    def __init__(self, config: TextConfig, seed: int) -> None:
        if config.prompt_template and "{question}" not in config.prompt_template:
            raise ValueError("task.prompt_template does not hold {question}: the question would be missing")
        if config.decontaminate not in DECONTAMINATE:
            raise ValueError(f"task.decontaminate = {config.decontaminate!r}: use {', '.join(DECONTAMINATE)}")
        names = [find_benchmark(name).name for name in config.benchmarks]
        if len({*names, VALIDATION}) <= len(names):
            raise ValueError(f"task.benchmarks: {', '.join(names)}: suites of one name, or named {VALIDATION}")
        self.config = config
        self.seed = seed
        self.stop_ids: tuple[int, ...] = ()
        self.vocab_size = 0
        self._data = TextData(config, names)
        self._names = tuple(names)
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._encoder: PromptEncoder | None = None
        self._kept: list[Question] = []
        self._lengths: PromptLengths | None = None
        self._taught: TaughtRows | None = None
        self._suites: list[Suite] | None = None
        self._random_lengths: list[int] = []
        self._anchors: dict[str, list[tuple[int, ...]]] = {}
        self._traces: list[tuple[tuple[int, ...], tuple[int, ...]]] | None = None
        self._traced: TaughtRows | None = None
        self._spellings: dict[tuple[int, str, tuple[str, ...]], dict[str, int]] = {}

    @property
    def primary(self) -> str:
        """The suite of the headline metrics; '' for a task without suites."""
        return self._names[0] if self._names else VALIDATION if self.config.validation_questions else ""

    def make_tokenizer(self) -> None:
        """Returns None: the tokenizer is the model's."""
        return None

    def attach(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Takes the model's tokenizer. Its end token, and the end of a turn in its chat template, end a response.
        Raises ValueError if it has no end token, or does not give back the text that it encodes."""
        if tokenizer.eos_token_id is None:
            raise ValueError("the model's tokenizer has no end-of-sequence token")
        back = str(tokenizer.decode(tokenizer.encode(PROBE, add_special_tokens=False)))
        if "".join(back.split()) != "".join(PROBE.split()):
            raise ValueError(f"the model's tokenizer does not give back what it encodes: {PROBE!r} became {back!r}")
        self._tokenizer, self._encoder = tokenizer, None
        self._kept, self._lengths, self._taught, self._suites = [], None, None, None  # of another tokenizer
        self._anchors, self._random_lengths = {}, []
        self._traces = self._traced = None
        ends = (int(tokenizer.eos_token_id), end_of_turn(tokenizer))
        self.stop_ids = tuple(dict.fromkeys(token for token in ends if token is not None))
        self.vocab_size = len(tokenizer)

    @property
    def overlapping(self) -> tuple[Overlap, ...]:
        """Training questions that were dropped, once data has been read."""
        return self._data.overlapping

    def train_examples(self, start: int, n: int) -> list[Example]:
        """Returns examples of one epoch after the other, each in an order of its own. Raises ValueError if there is
        nothing to train on."""
        questions = self._trained_on()
        left_N = np.array([self._taught is None or question.id in self._taught.targets for question in questions])
        size = int(left_N.sum())
        orders: dict[int, np.ndarray] = {}
        chosen: list[Question] = []
        prefixes: list[str] = []
        for position in range(start, start + n):
            epoch, place = divmod(position, size)
            if epoch not in orders:
                order_N = self._order(epoch)
                orders[epoch] = order_N[left_N[order_N]]
            chosen.append(questions[orders[epoch][place]])
            prefixes.append(f"train/{epoch}/")
        return self._examples(chosen, prefixes)

    def _order(self, epoch: int) -> np.ndarray:
        """Returns (N,) int64: which training question comes at each place of an epoch."""
        return np.random.default_rng([self.seed, _STREAM_ORDER, epoch]).permutation(len(self._trained_on()))

    def training_lengths(self) -> PromptLengths:
        """Measures the training prompts, including those that are left out. The room is ``task.max_prompt_tokens``, or
        the longest prompt's length where that is 0. Raises ValueError for data that cannot be trained on."""
        if self._lengths is None:
            questions, _ = self._data.training()
            found = self._examples(questions)
            room = self.config.max_prompt_tokens or max(len(example.prompt_ids) for example in found)
            self._lengths = prompt_lengths(found, room)
        return self._lengths

    def teach(self, room: int, pool: GraderPool, cut: bool = False) -> TaughtRows:
        """Makes the response to learn of every training question, and leaves questions without a right one of at most
        ``room`` tokens out of training, or with ``cut`` learns the beginnings of longer ones. Says what was left out.
        The response's text is encoded by itself, behind the prompt of RL, and ends with what ends a turn."""
        if self._taught is None or self._taught.room != room:
            questions, grade = self._trained_on(), lambda pairs: self._correct(pairs, pool)
            self._taught = taught_rows(questions, self.config.teach, room, self._response_ids, grade, cut=cut)
        return self._taught

    def learn_traces(self, source: str, n: int, room: int, pool: GraderPool, cut: bool = False) -> TaughtRows:
        """Makes the labelled traces of :meth:`traces`: of the first ``n`` training questions, as :meth:`teach` would,
        or of every row of ``source``, a data set or ``.jsonl`` file, that no evaluation asks and whose prompt is not
        too long. Training questions stay as they are: what is left out here follows from labelled rows alone. Says what
        was left out. Raises ValueError for a source that cannot be used."""
        own, grade = self._trained_on(), lambda pairs: self._correct(pairs, pool)
        questions, asked = self._data.usable(source) if source else ([own[k] for k in self._order(0)[:n]], ())
        prompts = {example.id: example.prompt_ids for example in self._examples(questions)}
        most = self.config.max_prompt_tokens
        long = {name: len(ids) for name, ids in prompts.items() if most and len(ids) > most}
        rows = taught_rows(questions, self.config.teach, room, self._response_ids, grade, long, cut)
        self._traces = [(prompts[name], ids) for name, ids in rows.targets.items()]
        everything = len(questions) + len(asked)
        self._traced = replace(rows, questions=everything, asked=tuple(overlap.train_id for overlap in asked))
        return self._traced

    def traces(self, n: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Returns prompt and response of what :meth:`learn_traces` made. Raises RuntimeError before that."""
        if self._traces is None:
            raise RuntimeError("TextTask.learn_traces must be called first")
        return list(self._traces)

    @property
    def traced(self) -> TaughtRows | None:
        """What :meth:`learn_traces` found; None before."""
        return self._traced

    def training_size(self) -> int | None:
        """Returns how many training questions there are."""
        return len(self._trained_on())

    def target(self, example: Example) -> tuple[int, ...]:
        """Returns the response of :meth:`teach` for a training question. Raises RuntimeError before that."""
        if self._taught is None:
            raise RuntimeError("TextTask.teach must be called first")
        return self._taught.targets[example.id.split("/", 2)[2]]

    @property
    def taught(self) -> TaughtRows | None:
        """What :meth:`teach` found; None before."""
        return self._taught

    def can_stop_thinking(self) -> bool:
        """Returns True if the model's chat template has a switch for ``task.thinking=off``."""
        return has_thinking_switch(self._attached())

    def has_options(self) -> bool:
        """Returns True if any training question has closed options."""
        return any(question.choices for question in self._data.training()[0])

    def grade(self, example: Example, response_ids: Sequence[int], truncated: bool) -> tuple[Outcome, str | None]:
        """Grades with the data set's grader, in this process and without limits. Returns the outcome and the vote of
        the answer. Runs grade in :mod:`carerl.grading.pool` instead."""
        verdict = self._verdict(example, response_ids, truncated)
        return verdict.outcome, vote(example.meta["grader"], verdict, example.meta["gold"])

    def _verdict(self, example: Example, response_ids: Sequence[int], truncated: bool) -> Verdict:
        text = without_statement(self.response_text(response_ids))
        return GRADERS[example.meta["grader"]].grade(text, example.meta["gold"], truncated)

    def response_text(self, response_ids: Sequence[int]) -> str:
        """Decodes a response to the text that its grader reads, except that the grader does not see a stated confidence
        (:func:`~carerl.calibration.without_statement`). Together with ``example.meta["grader"]`` and ``["gold"]`` it is
        all that grading needs, so another process can grade."""
        said = list(response_ids)
        if said and said[-1] in self.stop_ids:  # an end of turn need not be a special token
            said.pop()
        return str(self._attached().decode(said, skip_special_tokens=True))

    def anchor_sources(self) -> tuple[str, ...]:
        """Returns the one source that is no data set and no file."""
        return (RANDOM,)

    def anchor_prompts(self, source: str, start: int, n: int) -> list[tuple[int, ...]]:
        """Returns prompts for anchors: of a data set or a ``.jsonl`` file that may be trained on, asked like the run's
        own questions, without those that overlap a rewarded or an evaluated prompt or are too long; or random tokens,
        as many as the first :data:`MEASURED` training prompts have. Raises ValueError for a source that cannot be
        used."""
        if source == RANDOM:
            if not self._random_lengths:
                self._random_lengths = [len(example.prompt_ids) for example in self.train_examples(0, MEASURED)]
            lengths = [self._random_lengths[place % MEASURED] for place in range(start, start + n)]
            return random_prompts(self._attached(), self.seed, start, lengths)
        if source not in self._anchors:
            found = self._examples(self._data.apart(source))
            room = self.config.max_prompt_tokens
            kept = [example.prompt_ids for example in found if not room or len(example.prompt_ids) <= room]
            if not kept:
                raise ValueError(f"{source}: no prompt is left that is neither rewarded nor evaluated nor too long")
            self._anchors[source] = kept
        own = self._anchors[source]
        return [own[place] for place in places(self.seed, len(own), start, n)]

    def decision(self, example: Example, sample: Sample) -> Decision | None:
        """Finds the token of a graded response that names the option it was graded for, see
        :mod:`~carerl.grading.decision`. Returns None for a question without options, and for a response that does not
        name one by its label. Like :meth:`grade` it grades in this process and without limits; runs use
        :meth:`decision_search`."""
        search, grader = self.decision_search(example, sample), GRADERS[example.meta["grader"]]
        try:
            asked = next(search)
            while True:
                asked = search.send(grader.grade(asked, example.meta["gold"], sample.truncated))
        except StopIteration as found:
            decision: Decision | None = found.value
            return decision

    def decision_search(self, example: Example, sample: Sample) -> Generator[str, Verdict, Decision | None]:
        """Searches like :meth:`decision` where the grader runs elsewhere: yields a text to grade, and is sent the
        verdict on it. A text that could not be graded ends the search, as nobody can tell whether its token decides."""
        labels = tuple(label for label, _ in example.meta["gold"].choices)
        chosen = sample.answer
        if chosen is None or chosen not in labels:
            return None
        search = decision_search(
            sample.response_ids, chosen, lambda token: self.spelling(token, chosen, labels), self.response_text
        )
        try:
            asked = next(search)
            while True:
                verdict = yield without_statement(self.response_text(asked))
                if verdict.outcome is Outcome.INVALID:
                    return None
                asked = search.send(verdict.extracted)
        except StopIteration as found:
            decision: Decision | None = found.value
            return None if decision is None else replace(decision, right=example.meta["gold"].accepted)

    def options(self, example: Example) -> tuple[Mapping[str, int], tuple[str, ...]]:
        """Returns a token of each option's bare label, and the right labels; nothing for a question without options, or
        with a label that is not one token."""
        gold = example.meta["gold"]
        encoded = {label: self._attached().encode(label, add_special_tokens=False) for label, _ in gold.choices}
        if not encoded or any(len(ids) != 1 for ids in encoded.values()):
            return {}, ()
        return {label: ids[0] for label, ids in encoded.items()}, gold.accepted

    def spelling(self, token: int, chosen: str, labels: tuple[str, ...]) -> dict[str, int]:
        """Returns :func:`~carerl.grading.decision.spellings` with this task's tokenizer."""
        if (token, chosen, labels) not in self._spellings:
            self._spellings[token, chosen, labels] = spellings(self._attached(), token, chosen, labels)
        return self._spellings[token, chosen, labels]

    def answer_span(self, example: Example, sample: Sample) -> AnswerSpan | None:
        """Finds the marked answer that a response's grader reads, see :mod:`carerl.grading.places`; None without
        one."""
        text = blanked_statement(self.response_text(sample.response_ids))
        place = answer_place(text, example.meta["grader"], sample.truncated)
        return None if place is None else token_span(sample.response_ids, self.response_text, place)

    def training_graders(self) -> Counter[str]:
        """Returns how many training questions each grader grades."""
        return Counter(question.grader for question in self._trained_on())

    def suites(self) -> list[Suite]:
        """Returns the benchmarks in the order of the settings, the first of them primary, then the validation
        questions."""
        if self._suites is None:
            found = dict(self._data.evaluation())
            if self.config.validation_questions:
                found[VALIDATION] = self._data.training()[1]
            self._suites = [
                Suite(name, tuple(self._examples(shuffled(questions))), primary=name == self.primary)
                for name, questions in found.items()
            ]
        return list(self._suites)

    def evaluate(self, results: Mapping[str, Sequence[Group]]) -> Evaluation:
        """Computes the metrics of :mod:`carerl.tasks.text_evaluation`."""
        return text_evaluation.evaluate(results, self.primary, self.seed)

    def _trained_on(self) -> list[Question]:
        """Returns the training questions whose prompts are not too long. Raises ValueError if none is left."""
        if not self._kept:
            lengths, (questions, _) = self.training_lengths(), self._data.training()
            dropped = {question_id for question_id, _ in lengths.too_long}
            self._kept = [question for question in questions if question.id not in dropped]
            if not self._kept:
                raise ValueError(f"{self.config.train}: no prompt has {lengths.room} tokens or fewer")
        return self._kept

    def _response_ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Encodes responses, each with what ends a turn, or a text where no chat template ends a turn."""
        if not texts:
            return []
        encoded = self._attached()(list(texts), add_special_tokens=False)["input_ids"]
        return [(*ids, self.stop_ids[-1]) for ids in encoded]

    def _correct(self, pairs: Sequence[tuple[Question, tuple[int, ...]]], pool: GraderPool) -> list[bool]:
        jobs = [
            Job(question.grader, without_statement(self.response_text(ids)), question.gold, False)
            for question, ids in pairs
        ]
        return [
            verdict.outcome is (Outcome.CORRECT if question.gold.answerable else Outcome.ABSTAINED)
            for (question, _), verdict in zip(pairs, pool.grade(jobs), strict=True)
        ]

    def _attached(self) -> PreTrainedTokenizerBase:
        if self._tokenizer is None:
            raise RuntimeError("TextTask.attach(tokenizer) must be called first")
        return self._tokenizer

    def _examples(self, questions: Sequence[Question], prefixes: Sequence[str] = ()) -> list[Example]:
        """Makes an example of each question. ``prefixes``, one for each question, keep the ids of two epochs apart."""
        self._encoder = self._encoder or prompt_encoder(self._attached(), thinks=self.config.thinking != "off")
        encoded = self._encoder([self._prompt(question) for question in questions])
        marked = {ASKS_CONFIDENCE: True} if self.config.ask_confidence else {}
        return [
            Example(
                prefix + question.id,
                ids,
                question.gold_text,
                {"gold": question.gold, "grader": question.grader, QUESTION: question.shown, **marked},
            )
            for question, ids, prefix in zip(questions, encoded, prefixes or [""] * len(questions), strict=True)
        ]

    def _prompt(self, question: Question) -> Prompt:
        """Returns what the system and the user say. Raises ValueError for a row whose system prompt is not the
        run's."""
        template = self.config.prompt_template or question.template
        if self.config.ask_confidence and CONFIDENCE_TAG not in template:
            template += CONFIDENCE
        system = question.system or self.config.system_prompt
        if self.config.system_prompt not in ("", system):
            raise ValueError(
                f"{question.id}: the row has a system prompt of its own, {question.system!r}, and task.system_prompt "
                "asks for another; leave task.system_prompt out, or take 'system' out of the row"
            )
        return system, template.replace("{question}", question.shown)
