"""Evaluations of text benchmarks made from nothing: models of known sharpness, graded and scored by the real code.

A question's favourite answer is right with probability p, Beta(4, 1.5); a model gives it with probability
sigmoid(sharpness · logit p) and else one of three others: calibrated at 1, but for what 16 votes blur. Which answers
are right is the question's own, so that two models asked the same questions can be paired.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import special

from carerl.grading import Gold
from carerl.runs.samples import SampleStore
from carerl.runs.tables import write_evaluation
from carerl.tasks import text_evaluation
from carerl.types import Decision, Example, Group, Outcome, Sample

VOTES = 16
OPTIONS = ("1", "2", "3", "4", "7")
SUITES = ("math500", "gsm8k", "selfaware", "truthfulqa", "validation")
WORDS = ("Consider what is asked.", "It follows step by step.", "A check shows the same.", "So this remains.")


def groups(suite: str, count: int, sharpness: float, skill: float, seed: int, silent: float = 0.08) -> list[Group]:
    """``skill`` is added to the logit of p; ``silent``: share of the samples without an answer; ``seed``: of the
    model's dice, not of the questions."""
    rng = np.random.default_rng([1, *suite.encode()])
    dice = np.random.default_rng([seed, *suite.encode()])
    chances = rng.beta(4, 1.5, count)
    made = []
    for k in range(count):
        answerable = suite != "selfaware" or k % 3 > 0
        p = special.expit(special.logit(chances[k]) + skill)
        favourite = "7" if rng.random() < p and answerable else "3"
        share = special.expit(sharpness * special.logit(np.clip(p, 1e-6, 1 - 1e-6)))
        gold = Gold(("7",), answerable=answerable) if answerable else Gold((), answerable=False)
        name = f"{suite}/{k}"
        prompt = tuple(f"How many are there in case {k} of {suite}, all things considered?".encode())
        example = Example(name, prompt, "7" if answerable else "unanswerable", {"gold": gold, "grader": "selfaware"})
        made.append(Group(example, [_sample(name, answerable, favourite, share, silent, dice) for _ in range(VOTES)]))
    return made


def _sample(
    name: str, answerable: bool, favourite: str, share: float, silent: float, dice: np.random.Generator
) -> Sample:
    fate = dice.random()
    answer: str | None = favourite if dice.random() < share else str(dice.choice(["1", "2", "4"]))
    if fate < silent / 2:
        outcome, answer = Outcome.TRUNCATED, None
    elif fate < silent:
        outcome, answer = Outcome.UNPARSED, None
    elif not answerable and dice.random() < 0.5 * share:
        outcome, answer = Outcome.ABSTAINED, "?"
    else:
        outcome = Outcome.CORRECT if answerable and answer == "7" else Outcome.WRONG
    words = " ".join(dice.choice(WORDS, int(dice.integers(2, 30))))
    said = f"{words} The answer is {answer}." if answer else words
    ids = tuple(said.encode())
    logprobs = tuple(np.log(dice.beta(5 + 20 * share, 1, len(ids))).tolist())
    stated = round(float(np.clip(share + dice.normal(0, 0.1), 0, 1)), 2) if answer and dice.random() < 0.9 else None
    return Sample(name, ids, logprobs, outcome is Outcome.TRUNCATED, (0, 0), outcome, answer, None, None, stated)


def decide(asked: Sequence[Group], seed: int) -> None:
    """Gives the samples with an answer a decision, as in multiple choice. Its probability is too high, and nearer to 1
    the more the answer is repeated. One in six was drawn although another option is likelier."""
    dice = np.random.default_rng([seed, 99])
    for group in asked:
        for sample in group.samples:
            if sample.answer not in OPTIONS:
                continue
            share = sum(other.answer == sample.answer for other in group.samples) / VOTES
            named = float(np.clip(0.8 * share**0.1 + 0.2 * dice.beta(1 + 4 * share, 1), 0.3, 0.9999))
            position = len(sample.response_ids) - 2  # before the full stop
            ids = {label: ord(label) for label in OPTIONS}
            sample.decision = Decision(position, sample.answer, ids, ("7",))
            other = OPTIONS[OPTIONS.index(sample.answer) - 1]
            first, second = (other, sample.answer) if dice.random() < 1 / 6 else (sample.answer, other)
            by_label = {first: named, second: 0.7 * (1 - named)}
            sample.option_probs = tuple(by_label.get(label, 0.1 * (1 - named)) for label in OPTIONS)


def make_text_evaluation(
    parent: Path,
    name: str,
    *,
    sharpness: float = 2.0,
    skill: float = 0.0,
    seed: int = 0,
    suites: Sequence[str] = SUITES,
    count: int | Mapping[str, int] = 60,
    samples: bool = True,
    decisions: bool = False,
    task: Mapping[str, Any] | None = None,
) -> Path:
    """A run directory as ``carerl.evaluate`` leaves it, of a model called ``name``."""
    run = parent / name
    run.mkdir(parents=True)
    asked = {suite: count if isinstance(count, int) else count[suite] for suite in suites}
    results = {suite: groups(suite, number, sharpness, skill, seed) for suite, number in asked.items()}
    if decisions:
        for number, found in enumerate(results.values()):
            decide(found, seed + number)
    scored = text_evaluation.evaluate(results, suites[0], 0)
    settings = {
        "recipe": name,
        "kind": "evaluate",
        "seed": 0,
        "model": {"path": f"models/{name}"},
        "task": {"name": "math", "validation_questions": asked.get("validation", 0), **(task or {})},
        "regularizer": {"name": "none" if name.startswith("none") else "srkl"},
        "evaluation": {"samples": VOTES, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "seed": 12345},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    summary = {"kind": "evaluate", "status": "completed", "seed": 0, "steps": 0, "seconds": 75.0}
    summary |= {"base": scored.metrics, "final": scored.metrics, "run_dir": str(run)}
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "versions.json").write_text(json.dumps({"carerl": "0.1.0", "commit": "a" * 40, "dirty": False}))
    write_evaluation(run / "evaluations", 0, scored, settings["evaluation"])
    if samples:
        store = SampleStore(run / "evaluations", 0, lambda ids: bytes(ids).decode())
        for suite, found in results.items():
            store.add(suite, dict(enumerate(found)))
        store.close()
    return run
