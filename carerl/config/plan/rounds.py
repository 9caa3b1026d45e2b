"""Estimates the seconds of a round of preferences, stage by stage, and says in words what a round is."""

from __future__ import annotations

from dataclasses import replace

from carerl.config.judging import judge_run, judges, questions_at_once
from carerl.config.plan.memory import GIB
from carerl.config.plan.rates import MEAN_RESPONSE
from carerl.config.plan.rows import rows_of
from carerl.config.plan.seconds import (
    Work,
    checkpoint_seconds,
    generate_seconds,
    layers_seconds,
    probe_seconds,
    score_seconds,
    training_head_seconds,
    turn_seconds,
)
from carerl.config.plan.sync import sync_parts
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape

STEPS = 8  # of a response [assumed]
IDS, LOGPROBS = 40, 32  # bytes of a token in the driver: its id, its log-prob, each an object and a place in a tuple
REVIEW = 0.5  # of the longest review that the judge may write [assumed: the mean]


def round_seconds(work: Work) -> dict[str, float]:
    """Returns the seconds of a round by stage. ``work``: the rows of a round's pairs.

    Assumed: every question has as many pairs as it may, and every second response has a place for a continuation by
    the second most probable token, if those are asked for."""
    c, drawn = work.config, work.config.prompts_per_step * work.config.preference.samples
    second = drawn // 2 if c.preference.asks_second else 0
    return {
        "generate": generate_seconds(work, drawn),
        "second tokens": generate_seconds(work, second) if second else 0.0,
        "score": score_seconds(replace(work, rows=drawn + second), 1.0),
        "judge": _judging_seconds(work, drawn + second),
        "pairs' reference": score_seconds(work, 1.0),
        "pairs' weights": rows_of(c).epochs * score_seconds(work, 1.0),
        "layers": layers_seconds(work),
        "head": training_head_seconds(work, 0.0),
        "weight sync": sum(sync_parts(c, work.shape, work.nodes).values()),
        "taking turns": turn_seconds(work),
        "parity probe": probe_seconds(work) / c.sync.probe_every if c.sync.probe_every else 0.0,
        "checkpoint": checkpoint_seconds(work),
    }


def _judging_seconds(work: Work, responses: int) -> float:
    """Returns the seconds in which completions, or reviews of the second model, say which steps are right."""
    c = work.config
    if c.preference.judged and c.preference.label == "monte_carlo":
        return generate_seconds(work, responses * STEPS * c.preference.completions)
    if not judges(c):
        return 0.0
    own = judge_run(c)
    length, solution = REVIEW * own.rollout.max_new_tokens, work.prompt + work.response
    return generate_seconds(Work(own, effective_shape(own)[0], work.nodes, responses, solution, length), responses)


def round_lines(c: RunConfig) -> list[str]:
    """Returns in words what a round is, and what its plan assumes."""
    p, rows = c.preference, rows_of(c)
    judge = {"exact": "the task says", "monte_carlo": f"{p.completions} completions of each say", "judge": "the second "
             "model says"}[p.label]  # fmt: skip
    labels = f"{judge} which steps are right" if p.judged else "the graders say which responses are right"
    lines = [
        f"{p.method}, {c.steps} rounds: each samples {p.samples} responses to {c.prompts_per_step} questions, {labels},"
        f" and trains on {rows.prompts:,} pairs at most, {rows.minibatches * rows.epochs} optimizer steps of "
        f"{p.pairs_per_update}; a right and a wrong one are not found for every question, so that there will be fewer",
        "the reference of a round is the policy at its start: the learner scores every pair once before the first "
        "step, and no second copy of the weights is kept",
    ]
    lines.append(_driver_line(c))
    if p.judged and p.label == "monte_carlo":
        lines.append(f"in the mean {STEPS} steps a response of {MEAN_RESPONSE:.0%} of its limit are assumed")
    return lines


def _driver_line(c: RunConfig) -> str:
    """Says what the driver holds beside what the plan of memory counts, with every response at full length."""
    p, full = c.preference, c.rollout.max_new_tokens
    responses = IDS * full * c.prompts_per_step * p.samples * (1.5 if p.asks_second else 1.0) / GIB
    line = f"the driver holds up to {responses:.1f} GiB of the round's responses"
    if p.judged and p.label == "monte_carlo":
        completions = (IDS + LOGPROBS) * full * questions_at_once(c) * p.samples * p.completions / GIB
        line += f", and {completions:.1f} GiB of completions at a time"
    return line
