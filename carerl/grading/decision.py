r"""Finds the decision token: the place where a response names the option that it is graded for.

With closed options (multiple choice, yes or no under labels) a response is a trace and then a decision. The decision's
position serves the confidence ``answer_prob``, and training at that token (arXiv 2601.13284).

[ours] The decision is found by its effect: exchange the token for the one that names another option in the same
spelling, and the graded answer changes. So the grader's own reading decides, whatever marked the answer (a box, a tag,
"the answer is B", a bare "(B)"), and a label in the trace is no decision. Where several tokens have this effect (``B,
that is (B)``), it is the first: the later ones copy it.

Only sampled ids and the vocabulary's own pieces are used; no text is encoded again. Tokenizers merge a label with its
neighbours (" B", "(B", "B)", "{B"). The options at that position are then " A", " C" or "(A", "(C": the pieces that
differ in the label alone. A response has no decision

- without a graded label: unparsed, truncated, several options at once;
- where it names its option by text alone (``\boxed{Paris}``);
- where the label is not one token, or some option has no token in that spelling (``10`` in digits, of ten options).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from carerl.types import Decision

LOOKED_AT = 32  # tokens that could name the option, from the response's end


def spellings(tokenizer: Any, token: int, chosen: str, labels: Sequence[str]) -> dict[str, int]:
    """Returns by label the tokens that name an option as ``token`` names ``chosen``; empty if it does not, or if an
    option has no such token.

    >>> from carerl.tasks.byte_tokenizer import make_byte_tokenizer
    >>> tokenizer = make_byte_tokenizer()
    >>> found = spellings(tokenizer, tokenizer.encode("b")[0], "B", ("A", "B"))
    >>> {label: tokenizer.decode([token]) for label, token in found.items()}
    {'A': 'a', 'B': 'b'}
    """
    text, piece = str(tokenizer.decode([token])), tokenizer.convert_ids_to_tokens(token)
    case = next((c for c in (str, str.lower, str.upper) if _stands(c(chosen), text)), None)
    if case is None or piece.count(case(chosen)) != 1:
        return {}
    found: dict[str, int] = {}
    for label in labels:
        wanted = piece.replace(case(chosen), case(label))
        other = tokenizer.convert_tokens_to_ids(wanted)
        if other is None or tokenizer.convert_ids_to_tokens(other) != wanted:  # the unknown token, or none
            return {}
        found[label] = int(other)
    return found if len(set(found.values())) == len(labels) else {}


def _stands(label: str, text: str) -> bool:
    """Returns True if a label occurs in the text once, and as a word of its own."""
    return len(re.findall(rf"(?<![^\W_]){re.escape(label)}(?![^\W_])", text)) == 1


def find_decision(
    response_ids: Sequence[int],
    chosen: str,
    named: Callable[[int], Mapping[str, int]],
    text: Callable[[Sequence[int]], str],
    read: Callable[[Sequence[int]], str | None],
) -> Decision | None:
    """Finds the decision of a response that is graded for ``chosen``; None if it has none (see the module's docstring).

    ``named(token)``: :func:`spellings`. ``text(ids)``: what they decode to. ``read(ids)``: the answer that the grader
    reads from a response. Only the last :data:`LOOKED_AT` tokens that could name the option are tried.
    """
    search = decision_search(response_ids, chosen, named, text)
    try:
        asked = next(search)
        while True:
            asked = search.send(read(asked))
    except StopIteration as found:
        decision: Decision | None = found.value
        return decision


def decision_search(
    response_ids: Sequence[int],
    chosen: str,
    named: Callable[[int], Mapping[str, int]],
    text: Callable[[Sequence[int]], str],
) -> Generator[list[int], str | None, Decision | None]:
    """Searches like :func:`find_decision` where the grader runs elsewhere: yields a response to read, is sent the
    answer that was read from it, and returns the decision."""
    ids = list(response_ids)
    found: Decision | None = None
    tried = 0
    for position in reversed(range(len(ids))):
        options = named(ids[position])
        if not options or not _apart(ids, position, text):
            continue
        other = next(token for label, token in options.items() if label != chosen)
        if (yield [*ids[:position], other, *ids[position + 1 :]]) != chosen:
            found = Decision(position, chosen, options)
        elif found is not None:
            break  # what is before it is the trace
        tried += 1
        if tried == LOOKED_AT:
            break
    return found


def _apart(ids: Sequence[int], position: int, text: Callable[[Sequence[int]], str]) -> bool:
    r"""Returns True if the token is not inside a word of several tokens, as the ``b`` of ``\boxed`` is when read in
    bytes. The token is decoded between its neighbours: alone it may lose the space that it begins with."""
    first = max(0, position - 1)
    around = text(ids[first : position + 2])
    cuts = (len(text(ids[first:position])), len(text(ids[first : position + 1])))
    return not any(0 < cut < len(around) and around[cut - 1 : cut + 1].isalnum() for cut in cuts)
