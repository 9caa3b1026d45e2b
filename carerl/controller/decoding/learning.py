"""Learns the thresholds of methods of inference from plain responses to validation questions, once an evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from carerl.actors.handles.engines import Engines
from carerl.backends.recorder import span
from carerl.controller.decoding.drawing import Drawing
from carerl.controller.decoding.plan import Plan
from carerl.inference.base import Method, Trace
from carerl.inference.context import Context, decoded
from carerl.inference.methods import METHODS
from carerl.runs.decoded import Answered
from carerl.runs.thresholds import read_thresholds, write_thresholds
from carerl.runs.traces import TraceStore
from carerl.tasks import Suite

Progress = Callable[[Sequence[Answered]], bool]


def thresholds(
    engines: Engines, plan: Plan, evaluations: Path, begin: Callable[[str], Progress], say: Callable[[str], None]
) -> dict[str, float] | None:
    """Returns the thresholds of the methods that learn one: those that are kept, or what plain responses to validation
    questions give, one each. None if it was stopped: the responses that have ended are on disk then."""
    kept = read_thresholds(evaluations, 0)
    if plan.validation is None or set(plan.learning) <= set(kept):
        return kept
    suite = plan.validation
    store = TraceStore(evaluations, 0, say)
    with span("thresholds"):
        traces = _draw(engines, plan, suite, store, begin(f"{suite.name} · thresholds"))
    if traces is None:
        return None
    context = plan.context(suite, 0)
    learned = {method: METHODS[method].threshold_from(traces, context) for method in plan.learning}
    write_thresholds(evaluations, 0, learned)
    store.remove()
    questions = f"validation questions of {plan.source}" if plan.source else "the task's own validation questions"
    for method, threshold in learned.items():
        say(f"{method}: threshold {threshold:.3g} from {len(traces)} responses to {questions}")
    return learned


def _draw(engines: Engines, plan: Plan, suite: Suite, store: TraceStore, progress: Progress) -> list[Trace] | None:
    """Draws a response to each question that the store has none of; each is stored as it ends. None if stopped."""
    traces = store.finished(suite.examples)
    waiting = deque(number for number in range(len(suite.examples)) if number not in traces)
    drawing = Drawing(engines, plan, plan.context(suite, 0).max_new_tokens, plan.decode.top)
    go_on = progress([])
    while go_on and (waiting or drawing):
        while waiting and drawing.open < plan.room:
            number = waiting.popleft()
            method = _one_response(plan.context(suite, number), number, traces)
            drawing.begin(number, suite.examples[number].prompt_ids, method)
        store.add([(suite.examples[drawn.number], traces[drawn.number]) for drawn in drawing.advance()])
        go_on = progress([])
    drawing.end(cancel=not go_on)
    return [traces[number] for number in sorted(traces)] if len(traces) == len(suite.examples) else None


def _one_response(context: Context, number: int, traces: dict[int, Trace]) -> Method:
    """Draws one plain response, and keeps its trace."""
    ask = context.ask((0,))
    (traces[number],) = yield [ask]
    return decoded([context.branch(ask, traces[number])], rounds=1)
