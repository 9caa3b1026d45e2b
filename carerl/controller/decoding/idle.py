"""Says where a method of inference did no more than self-consistency does, and which setting is to blame."""

from __future__ import annotations

from collections.abc import Sequence

from carerl.controller.decoding.plan import Plan
from carerl.inference.steps import TextSplitter
from carerl.runs.decoded import Answered


def idle(method: str, questions: Sequence[Answered], plan: Plan) -> str:
    """Returns what is to be said of a method that has answered all of a suite's questions; '' where it did something,
    or has nothing to do but to draw."""
    if not questions or method not in ("cat", "deepconf"):
        return ""
    return _cat(questions, plan) if method == "cat" else _deepconf(questions)


def _cat(questions: Sequence[Answered], plan: Plan) -> str:
    branches = [branch for one in questions for branch in one.decoded.branches]
    if all(len(branch.steps) <= 1 for branch in branches):
        cause = ""
        if isinstance(plan.splitter, TextSplitter):
            cause = f": the delimiter {plan.decode.delimiter!r} is in none of them (decode.delimiter)"
        return f"no response has two steps, so nothing was pruned and no branch forked{cause}"
    if any(branch.pruned for branch in branches) or any(one.decoded.rounds > 1 for one in questions):
        return ""
    threshold = questions[0].decoded.facts["threshold"]
    setting = "decode.cat.quantile" if "cat" in plan.learning else "decode.cat.threshold"
    return (
        f"none of {len(branches)} branches was pruned: no cumulative confidence fell under the threshold "
        f"{threshold:.3g} ({setting})"
    )


def _deepconf(questions: Sequence[Answered]) -> str:
    facts = [one.decoded.facts for one in questions]
    if any(of["judged"] for of in facts):
        return ""
    return (
        f"no response after the warm-up filled a group of {facts[0]['window']:g} tokens, so none could be ended early "
        "(decode.deepconf.window)"
    )
