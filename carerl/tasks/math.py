r"""Competition mathematics with a boxed answer: MATH and files like it.

The prompt asks for the answer in ``\boxed{}``; grading reads the last box of the response and compares by
:func:`carerl.tasks.grading.canonical` (normal form, or exact rational value). This is less than mathematical
equality; a fuller equivalence comes in a later version.

Data is a local ``.jsonl`` file or a data set of the Hugging Face hub. A row has ``problem`` (or ``question``)
and ``answer``; without an answer, the last box of ``solution`` is taken. Two optional fields of ``extra`` are
read: ``accepted_answers`` (any of them is right), ``full_answer`` (the whole of an answer in several boxes).

[ours] An epoch's order is a permutation from (seed, epoch), and epochs follow each other without a gap. Evaluation
questions are shuffled once, by a fixed seed that is not the run's, so that the first n are a fair subset and the same
in every run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from carerl.calibration import ece, majority, reliability_bins
from carerl.types import Example, Group, Outcome

from .base import Evaluation, Suite, check_graded
from .grading import canonical, extract_boxed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_STREAM_ORDER = 0
_EVALUATION_ORDER_SEED = 20260131
_PROBLEM_FIELDS = ("problem", "question")


@dataclass
class MathConfig:
    r"""``*_path``: a ``.jsonl`` file, or ``owner/name`` of a hub data set of which ``*_split`` is taken.

    ``prompt_template`` must hold ``{problem}``; ``system_prompt`` may be empty. A tokenizer without a chat
    template gets the system prompt and the filled template as plain text.
    """

    name: str = "math"
    train_path: str = "DigitalLearningGmbH/MATH-lighteval"
    train_split: str = "train"
    eval_path: str = "HuggingFaceH4/MATH-500"
    eval_split: str = "test"
    system_prompt: str = ""
    prompt_template: str = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True)
class Problem:
    """One row: ``accepted`` holds canonical answers, the first of them is the gold answer."""

    id: str
    text: str
    gold: str
    accepted: tuple[str, ...]


def parse_row(row: Any, where: str) -> Problem:
    """A row of a file or data set. Raises ValueError naming ``where`` (file and row) and the field."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{where}: a row must be an object, not {type(row).__name__}")
    text = next((row[name] for name in _PROBLEM_FIELDS if row.get(name)), None)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: no text in 'problem' (or 'question')")
    extra = row.get("extra") or {}
    answer = extra.get("full_answer") or row.get("answer")
    if answer is None and isinstance(row.get("solution"), str):
        answer = extract_boxed(row["solution"])
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(f"{where}: no text in 'answer', and no \\boxed{{}} in 'solution'")
    accepted = dict.fromkeys(canonical(a) for a in (answer, *(extra.get("accepted_answers") or ())))
    return Problem(str(row.get("id") or where), text, answer, tuple(accepted))


def load_problems(path: str, split: str) -> list[Problem]:
    """All rows of a ``.jsonl`` file, or of a hub data set's split.

    Raises ValueError with file and row number for a bad row, for a missing or empty file, and for a data set
    that cannot be loaded (the hub's own message included).
    """
    rows: Iterable[tuple[str, Any]]
    if path.endswith(".jsonl"):
        rows = _read_jsonl(Path(path))
    else:
        rows = _read_hub(path, split)
    problems = [parse_row(row, where) for where, row in rows]
    if not problems:
        raise ValueError(f"{path}: no rows")
    return problems


def _read_jsonl(path: Path) -> Iterable[tuple[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give task.train_path and task.eval_path as a .jsonl file that exists")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{path.name}:{number}"
            if not line.strip():
                continue
            try:
                yield where, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where}: not JSON ({error})") from error


def _read_hub(name: str, split: str) -> Iterable[tuple[str, Any]]:
    from datasets import load_dataset

    try:
        rows = load_dataset(name, split=split)
    except Exception as error:  # the library raises many kinds: of the network, of the hub, of the format
        raise ValueError(
            f"{name} ({split}): cannot be loaded from the hub ({type(error).__name__}: {error}); "
            "to use a local copy give a path that ends in .jsonl"
        ) from error
    for number, row in enumerate(rows):
        yield f"{name}/{split}/{number}", row


class MathTask:
    """See the module docstring. Data is read when first asked for, so that a plan needs none."""

    def __init__(self, config: MathConfig, seed: int) -> None:
        if "{problem}" not in config.prompt_template:
            raise ValueError("task.prompt_template does not hold {problem}: the question would be missing")
        self.config = config
        self.seed = seed
        self.stop_ids: tuple[int, ...] = ()
        self.vocab_size = 0
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._train: list[Problem] | None = None
        self._suites: list[Suite] | None = None

    needs_tokenizer = True

    def make_tokenizer(self) -> None:
        """None: the tokenizer is the model's."""
        return None

    def attach(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Takes the model's tokenizer. Raises ValueError if it has no end token or loses the text."""
        if tokenizer.eos_token_id is None:
            raise ValueError("the model's tokenizer has no end-of-sequence token")
        probe = r"Find $\frac{1}{2} + 3$. \boxed{7}"
        back = str(tokenizer.decode(tokenizer.encode(probe, add_special_tokens=False)))
        if "".join(back.split()) != "".join(probe.split()):
            raise ValueError(f"the model's tokenizer does not give back what it encodes: {probe!r} became {back!r}")
        self._tokenizer = tokenizer
        self.stop_ids = (int(tokenizer.eos_token_id),)
        self.vocab_size = len(tokenizer)

    def train_examples(self, start: int, n: int) -> list[Example]:
        """One epoch after the other, each in an order of its own."""
        if self._train is None:
            self._train = load_problems(self.config.train_path, self.config.train_split)
        size = len(self._train)
        orders: dict[int, np.ndarray] = {}
        examples = []
        for position in range(start, start + n):
            epoch, place = divmod(position, size)
            if epoch not in orders:
                orders[epoch] = np.random.default_rng([self.seed, _STREAM_ORDER, epoch]).permutation(size)
            examples.append(self._example(self._train[orders[epoch][place]], f"train/{epoch}/"))
        return examples

    def grade(self, example: Example, response_ids: Sequence[int], truncated: bool) -> tuple[Outcome, str | None]:
        """By the last box of the response. The answer returned is canonical, so that votes cluster."""
        boxed = extract_boxed(str(self._attached().decode(list(response_ids), skip_special_tokens=True)))
        if boxed is None:
            return (Outcome.TRUNCATED if truncated else Outcome.UNPARSED), None
        answer = canonical(boxed)
        return (Outcome.CORRECT if answer in example.meta["accepted"] else Outcome.WRONG), answer

    def suites(self) -> list[Suite]:
        """One suite, ``math``: the evaluation file."""
        if self._suites is None:
            problems = load_problems(self.config.eval_path, self.config.eval_split)
            order = np.random.default_rng(_EVALUATION_ORDER_SEED).permutation(len(problems))
            self._suites = [Suite("math", tuple(self._example(problems[i]) for i in order), primary=True)]
        return list(self._suites)

    def score(self, results: Mapping[str, Sequence[Group]]) -> Evaluation:
        """``eval/accuracy`` over samples; ``eval/maj`` and ``calibration/question_ece`` (majority share, 10
        bins) over questions; ``eval/entropy`` = mean -log p of the response tokens, nats."""
        check_graded(results)
        groups = results.get("math", ())
        if not groups:
            return Evaluation({})
        votes = [majority([s.answer for s in g.samples], g.example.id, self.seed) for g in groups]
        share = np.array([s for _, s in votes])
        right = np.array([float(a in g.example.meta["accepted"]) for g, (a, _) in zip(groups, votes, strict=True)])
        samples = [sample for group in groups for sample in group.samples]
        tokens = sum(len(sample.rollout_logprobs) for sample in samples)
        metrics = {
            "eval/accuracy": float(np.mean([sample.correct for sample in samples])),
            "eval/maj": float(right.mean()),
            "eval/entropy": -sum(sum(sample.rollout_logprobs) for sample in samples) / max(1, tokens),
            "calibration/question_ece": ece(share, right),
        }
        rows = [
            {
                "suite": "math",
                "example_id": group.example.id,
                "gold": group.example.gold,
                "majority": answer,
                "confidence": confidence,
                "right": float(good),
                "samples": len(group.samples),
                **{str(o): sum(s.outcome is o for s in group.samples) for o in Outcome},
            }
            for group, (answer, confidence), good in zip(groups, votes, right, strict=True)
        ]
        return Evaluation(metrics, {"math": reliability_bins(share, right)}, rows)

    def _attached(self) -> PreTrainedTokenizerBase:
        if self._tokenizer is None:
            raise RuntimeError("MathTask.attach(tokenizer) must be called first")
        return self._tokenizer

    def _example(self, problem: Problem, prefix: str = "") -> Example:
        """``prefix`` keeps the ids of two epochs apart."""
        tokenizer = self._attached()
        prompt = self.config.prompt_template.replace("{problem}", problem.text)
        system = self.config.system_prompt
        if getattr(tokenizer, "chat_template", None):
            messages = [{"role": "system", "content": system}] if system else []
            messages.append({"role": "user", "content": prompt})
            ids = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=False)
        else:
            ids = tokenizer.encode(f"{system}\n\n{prompt}\n" if system else f"{prompt}\n")
        return Example(prefix + problem.id, tuple(ids), problem.gold, {"accepted": problem.accepted})
