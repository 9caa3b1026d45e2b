"""Says which steps are right: the task, completions through the engines, or a second model.

A way of judging is a class with ``judge(solutions)`` and a line in :data:`LABELS`. It gets solutions by the number of
their question, and returns them with verdicts; None if a stop was asked for. Its requests are seeded by question and
place, so that verdicts do not depend on what is judged together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from carerl.actors.crew import TrainingCrew
from carerl.backends import hub
from carerl.backends.engines.base import Request
from carerl.backends.models import end_ids, load_tokenizer
from carerl.config.schema import RunConfig
from carerl.preferences.judges import (
    by_completions,
    by_review,
    by_task,
    judge_messages,
    next_places,
    share_right,
    to_complete,
)
from carerl.preferences.records import Solution
from carerl.runs.rounds import Solutions
from carerl.seeds import derived_seed
from carerl.tasks import Task
from carerl.tasks.base import QUESTION, ChecksSteps
from carerl.tasks.coin_flips import tossed_labels
from carerl.types import Example, Group, Sample, Sampling

Ids = tuple[int, ...]
PLACES = 2**20  # more than the places of a question that are asked for
LABEL_STREAM, REVIEW_STREAM = 1, 2  # of a round's seed


@dataclass
class Workplace:
    """Holds all that a way of judging works with. ``seed``: of the round. ``ends``: tokens that end a response.
    ``go_on``: False once a stop was asked for. ``graded`` is called with completions that the graders have graded."""

    config: RunConfig
    task: Task
    crew: TrainingCrew
    decode: Callable[[list[int]], str]
    seed: int
    ends: tuple[int, ...]
    go_on: Callable[[], bool]
    graded: Callable[[Sequence[Group]], None] = lambda groups: None


class Label(Protocol):
    """Judges the steps of solutions."""

    def judge(self, solutions: Solutions, known: Solutions) -> Solutions | None:
        """Returns the solutions with verdicts; None if a stop was asked for. ``known``: solutions to the same questions
        that have been judged."""
        ...


@dataclass
class Exact:
    """Asks the task."""

    place: Workplace

    def judge(self, solutions: Solutions, known: Solutions) -> Solutions | None:
        task = self.place.task
        assert isinstance(task, ChecksSteps), "check_task has refused others"
        return {
            question: [by_task(one, task.step_labels(one.example, one.sample.response_ids)) for one in own]
            for question, own in solutions.items()
        }


@dataclass
class MonteCarlo:
    """Completes responses from the end of each step, and has the graders grade them. Where a place has been completed
    before, its verdict is taken.

    Goes from step to step: behind a wrong one nothing is completed. A place's number among all places of its question
    is the seed of its completions, so that it does not matter which of them are asked for."""

    place: Workplace

    def judge(self, solutions: Solutions, known: Solutions) -> Solutions | None:
        p = self.place.config.preference
        shares = {question: _verdicts(known.get(question, [])) for question in solutions}
        numbers = {}
        for question, own in solutions.items():
            new = [place for place in to_complete(own) if place not in shares[question]]
            numbers[question] = {place: k for k, place in enumerate(new, len(shares[question]))}
        tokens: dict[tuple[int, Ids], int] = {}
        while wanted := [
            (question, place)
            for question, own in solutions.items()
            for place in next_places(own, shares[question], p.wrong_to)
        ]:
            examples = {question: own[0].example for question, own in solutions.items()}
            groups = self._completed([(q, examples[q], place, numbers[q][place]) for q, place in wanted])
            if groups is None:
                return None
            for (question, place), group in zip(wanted, groups, strict=True):
                shares[question][place] = share_right(group.samples)
                tokens[question, place] = sum(len(sample.response_ids) - len(place) for sample in group.samples)
        return {
            question: [
                self._with_tokens(question, by_completions(one, shares[question], p.wrong_to), tokens) for one in own
            ]
            for question, own in solutions.items()
        }

    def _completed(self, wanted: Sequence[tuple[int, Example, Ids, int]]) -> list[Group] | None:
        """Returns the graded completions of each place; None if a stop was asked for. ``wanted``: question, example,
        tokens up to the place, its number."""
        place, r = self.place, self.place.config.rollout
        sampling = Sampling(
            place.config.preference.completions,
            r.temperature,
            r.max_new_tokens,
            derived_seed(place.seed, LABEL_STREAM),
            stop_ids=place.ends,
        )
        requests = [
            Request(question * PLACES + k, example.prompt_ids + ids, max_new_tokens=r.max_new_tokens - len(ids))
            for question, example, ids, k in wanted
        ]
        found = place.crew.engines.complete(
            requests, sampling, place.go_on, homes=[question for question, *_ in wanted]
        )
        if len(found) < len(requests):
            return None
        groups = []
        for (_, example, ids, _), completions in zip(wanted, found, strict=True):
            samples = [Sample(example.id, ids + c.token_ids, (), c.truncated, c.versions) for c in completions]
            groups.append(Group(example, samples))
        graded = place.crew.graders.grade(groups)
        place.graded(graded)
        return graded

    @staticmethod
    def _with_tokens(question: int, solution: Solution, tokens: dict[tuple[int, Ids], int]) -> Solution:
        """Returns a solution with the tokens that judge it, and takes them out: a place of several solutions counts for
        the first one."""
        ids = solution.sample.response_ids
        drawn = sum(tokens.pop((question, ids[: step.end]), 0) for step in solution.steps)
        return replace(solution, judge_tokens=drawn)


def _verdicts(solutions: Sequence[Solution]) -> dict[Ids, float | None]:
    """Returns the verdict of each place inside judged responses, by the tokens up to there."""
    return {
        one.sample.response_ids[: step.end]: step.right
        for one in solutions
        for step in one.steps
        if step.end < len(one.sample.response_ids)
    }


@dataclass
class SecondModel:
    """Has a second model review whole solutions. A solution that is too long for it has no verdicts."""

    place: Workplace
    _tokenizer: Any = None
    _ends: tuple[int, ...] = ()

    def judge(self, solutions: Solutions, known: Solutions) -> Solutions | None:
        place, judge = self.place, self.place.config.judge
        assert place.crew.judge is not None, "the plan starts one"
        self._load()
        requests, asked = [], []
        for question, own in solutions.items():
            for k, one in enumerate(own, len(known.get(question, []))):
                ids = self._prompt(one)
                if len(ids) + judge.max_new_tokens <= judge.max_model_len:
                    requests.append(Request(question * PLACES + k, ids))
                    asked.append((question, k - len(known.get(question, []))))
        seed = derived_seed(place.seed, REVIEW_STREAM)
        sampling = Sampling(1, judge.temperature, judge.max_new_tokens, seed, stop_ids=self._ends)
        found = place.crew.judge.complete(requests, sampling, place.go_on)
        if len(found) < len(requests):
            return None
        judged = {question: list(own) for question, own in solutions.items()}
        for (question, k), (review,) in zip(asked, found, strict=True):
            one = judged[question][k]
            text = self._tokenizer.decode(list(review.token_ids), skip_special_tokens=True)
            judged[question][k] = by_review(one, text, len(review.token_ids))
        return judged

    def _load(self) -> None:
        """Loads the second model's tokenizer, when it is first needed."""
        if self._tokenizer is None:
            files = hub.model_files(self.place.config.judge.path, self.place.config.judge.revision)
            self._tokenizer = load_tokenizer(files)
            own = self._tokenizer.eos_token_id
            self._ends = tuple(sorted({*end_ids(files), *([] if own is None else [own])}))

    def _prompt(self, solution: Solution) -> tuple[int, ...]:
        """Returns the request to review a solution, in the second model's tokens."""
        example, ids = solution.example, list(solution.sample.response_ids)
        question = str(example.meta.get(QUESTION) or self.place.decode(list(example.prompt_ids)))
        steps = [self.place.decode(ids[step.start : step.end]) for step in solution.steps]
        messages = judge_messages(question, steps)
        if self._tokenizer.chat_template is None:  # a rehearsal's stand-in, or a model without turns
            return tuple(self._tokenizer.encode(messages[0]["content"]))
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))


LABELS: dict[str, Callable[[Workplace], Label]] = {"exact": Exact, "monte_carlo": MonteCarlo, "judge": SecondModel}


@dataclass
class Tossed:
    """Judges as the run is asked to, and then replaces the verdicts by tosses of a coin, for a rehearsal."""

    real: Label
    seed: int

    def judge(self, solutions: Solutions, known: Solutions) -> Solutions | None:
        judged = self.real.judge(solutions, known)
        if judged is None:
            return None
        return {question: [self._toss(one) for one in own] for question, own in judged.items()}

    def _toss(self, one: Solution) -> Solution:
        ends = [step.end for step in one.steps]
        return by_task(one, tossed_labels(self.seed, one.example.id, one.sample.response_ids, ends))


@dataclass
class Unjudged:
    """Leaves steps without verdicts: whole responses have their graders'."""

    def judge(self, solutions: Solutions, known: Solutions) -> Solutions | None:
        return solutions


def label_of(place: Workplace) -> Label:
    """Returns what judges the steps of a run."""
    config = place.config
    if not config.preference.judged:
        return Unjudged()
    label = LABELS[config.preference.label](place)
    return label if config.coin_seed is None else Tossed(label, config.coin_seed)
