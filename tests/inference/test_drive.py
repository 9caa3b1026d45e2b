"""Many questions at once: none waits for another, and each gets its own traces in its own order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from carerl.inference.base import Ask, Decoded, Method, Trace
from carerl.inference.context import Context
from carerl.inference.drive import UnderWay
from tests.inference.toy import context


def trace(*token_ids: int) -> Trace:
    return Trace(token_ids, (0.0,) * len(token_ids), ())


def rounds_of(where: Context, rounds: Sequence[Sequence[int]], seen: list) -> Method:
    """Asks for the given paths in each round, and notes what it was sent."""
    for number, paths in enumerate(rounds):
        seen.append((yield [where.ask((number, path)) for path in paths]))
    return Decoded((), -1, 0.0, 0, len(rounds))


def test_a_question_goes_on_as_soon_as_its_own_traces_are_there() -> None:
    where, under_way, seen = context(), UnderWay(), {"a": [], "b": []}
    under_way.start("a", rounds_of(where, [[0, 1], [0]], seen["a"]))
    under_way.start("b", rounds_of(where, [[0]], seen["b"]))
    first = under_way.asks()
    assert [(key, ask.path) for key, ask in first] == [("a", (0, 0)), ("a", (0, 1)), ("b", (0, 0))]
    assert under_way.asks() == [] and len(under_way) == 2
    under_way.give("a", (0, 1), trace(5))
    assert under_way.asks() == [] and seen["a"] == []
    under_way.give("a", (0, 0), trace(4))
    assert [t.token_ids for t in seen["a"][0]] == [(4,), (5,)], "in the order of the asks"
    assert [(key, ask.path) for key, ask in under_way.asks()] == [("a", (1, 0))], "though b waits still"
    under_way.give("a", (1, 0), trace(6))
    assert [(key, decoded.rounds) for key, decoded in under_way.finished()] == [("a", 2)]
    assert under_way.finished() == [] and len(under_way) == 1 and under_way
    under_way.give("b", (0, 0), trace(7))
    assert under_way and len(under_way) == 0, "there is one to be collected"
    assert [key for key, _ in under_way.finished()] == ["b"] and not under_way


def test_a_method_that_has_nothing_to_wait_for_goes_on_at_once() -> None:
    where, under_way, seen = context(), UnderWay(), []
    under_way.start("a", rounds_of(where, [[], []], seen))
    assert seen == [(), ()] and under_way.asks() == []
    assert [key for key, _ in under_way.finished()] == ["a"]
    under_way.start("a", rounds_of(where, [[0]], seen))  # a key is free again
    assert len(under_way) == 1


@pytest.mark.parametrize(
    ("key", "path", "tokens", "why"),
    [
        ("b", (0, 0), 1, "does not wait"),
        ("a", (0, 2), 1, "does not wait"),
        ("a", (0, 1), 1, "does not wait"),  # it has its trace
        ("a", (0, 0), 0, "0 tokens, 1 to 24 wanted"),
        ("a", (0, 0), 25, "25 tokens, 1 to 24 wanted"),
    ],
)
def test_a_trace_that_nobody_asked_for_is_refused(key: str, path, tokens: int, why: str) -> None:
    under_way, seen = UnderWay(), []
    under_way.start("a", rounds_of(context(), [[0, 1]], seen))
    under_way.give("a", (0, 1), trace(4))
    with pytest.raises(ValueError, match=why):
        under_way.give(key, path, trace(*[4] * tokens))
    under_way.give("a", (0, 0), trace(4))
    assert len(seen) == 1, "and the question is as it was"


def test_a_key_or_a_path_that_is_used_twice_is_refused() -> None:
    under_way = UnderWay()
    under_way.start("a", rounds_of(context(), [[0]], []))
    with pytest.raises(ValueError, match="under way already"):
        under_way.start("a", rounds_of(context(), [[0]], []))
    with pytest.raises(ValueError, match="one path twice"):
        under_way.start("b", rounds_of(context(), [[0, 0]], []))


def test_an_ask_of_a_response_that_has_begun_is_for_the_rest_of_its_length() -> None:
    ask: Ask = context(3).ask((1, 2), (4, 4, 4))
    assert (ask.max_new_tokens, ask.prefix_ids, ask.temperature) == (21, (4, 4, 4), 1.0)
    assert ask.seed != context(4).ask((1, 2)).seed and ask.seed == context(3).ask((1, 2)).seed
