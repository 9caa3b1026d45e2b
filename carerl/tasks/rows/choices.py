"""Reads the options of a question, in the one schema for data sets, for a user's file and for rows to grade.

Any of these forms is an option list; options without labels get A, B, C …:

    ["4", "5"]                       texts, or numbers; "A) 4", "B) 5" lose the labels that they bring
    {"A": "4", "B": "5"}             label: text
    {"label": [...], "text": [...]}  as on the hub; without "label" too
    [{"label": "A", "text": "4"}]    "key" or "id" for "label", "content" for "text"; without labels too
    [["A", "4"], ["B", "5"]]         label and text

A row without an option list may have an option in each of its fields ``A``, ``B``, ``C`` …
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

NAMES = ("choices", "options", "answer_choices")  # of the field
LABELS = string.ascii_uppercase
_NOT_READ = (
    "endings",
    "candidates",
    "alternatives",
    "choice_list",
    "option_list",
    "possible_answers",
    "option_a",
    "optionA",
    "choice_a",
    "choice1",
    "option1",
    "opa",
)  # names that other files give to options
_LABEL_KEYS, _TEXT_KEYS = ("label", "key", "id"), ("text", "content")
_OWN_LABEL = re.compile(r"\s*\(?([A-Z])\s*[.):]\s*(\S.*)", re.DOTALL)
_FORMS = (
    'two or more options, each with a label of its own and a text: ["4", "5"], {"A": "4", "B": "5"}, '
    '[{"label": "A", "text": "4"}, …] or [["A", "4"], …]'
)

Choices = tuple[tuple[str, str], ...]


def find_choices(row: Mapping[str, Any], where: str) -> Any:
    """Returns the value of a row's field named in :data:`NAMES`, or of its fields A, B …; None if there is neither.

    Raises ValueError for a row with different options under two names, and for one whose options stand under a name
    that is not read: it would be asked without them.
    """
    found = {name: row[name] for name in NAMES if row.get(name)}
    if not found and (letters := {label: row[label] for label in LABELS if row.get(label)}).keys() >= {"A", "B"}:
        return letters
    first, *others = found or ("",)
    if any(found[name] != found[first] for name in others):
        raise ValueError(f"{where}: options stand in {first!r} and in {others[0]!r}; leave one of them")
    if not found and (unread := next((name for name in _NOT_READ if row.get(name)), None)):
        raise ValueError(f"{where}: {unread!r} seems to hold options, and is not read; name the field 'choices'")
    return found.get(first)


def parse_choices(value: Any, where: str) -> Choices:
    """Returns (label, text) of every option; () if there are no options. Raises ValueError."""
    if not value:
        return ()
    pairs = _pairs(value)
    texts = all(isinstance(label, str) and label and isinstance(text, str) and text for label, text in pairs)
    if len(pairs) < 2 or len({str(label) for label, _ in pairs}) < len(pairs) or not texts:
        raise ValueError(f"{where}: 'choices' must be {_FORMS}")
    return tuple((label, text) for label, text in pairs)


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if not isinstance(value, list):
        return []
    if all(isinstance(option, Mapping) for option in value):
        labels = [_first(option, _LABEL_KEYS) for option in value]
        texts = [_first(option, _TEXT_KEYS) for option in value]
        return _labelled(labels if any(label is not None for label in labels) else None, texts)
    if all(isinstance(option, list) and len(option) == 2 for option in value):
        return [(number_as_text(label), number_as_text(text)) for label, text in value]
    texts = [number_as_text(option) for option in value]
    return _with_own_labels(texts) or _labelled(None, texts)


def _of_mapping(value: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    texts = _first(value, _TEXT_KEYS)
    if isinstance(texts, Sequence) and not isinstance(texts, str):
        labels = _first(value, _LABEL_KEYS)
        return _labelled(list(labels) if isinstance(labels, list | tuple) and labels else None, list(texts))
    return [(label, number_as_text(text)) for label, text in value.items()]


def _labelled(labels: list[Any] | None, texts: list[Any]) -> list[tuple[Any, Any]]:
    """Pairs each text with its label, or with a letter. Returns nothing if their numbers differ."""
    given = list(LABELS[: len(texts)]) if labels is None else labels
    return (
        list(zip(map(number_as_text, given), map(number_as_text, texts), strict=True))
        if len(given) == len(texts)
        else []
    )


def _first(option: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((option[key] for key in keys if option.get(key) is not None), None)


def number_as_text(value: Any) -> Any:
    """Returns a number as text, a whole one without a fraction; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _with_own_labels(texts: list[Any]) -> list[tuple[Any, Any]]:
    """Splits options that all begin with their own labels, in order: "A) 4", "B) 5"."""
    found = [_OWN_LABEL.fullmatch(text) if isinstance(text, str) else None for text in texts]
    labels = [match.group(1) for match in found if match]
    if len(texts) < 2 or labels != list(LABELS[: len(texts)]):
        return []
    return [(match.group(1), match.group(2)) for match in found if match]


def label_of(answer: Any, choices: Choices, where: str, field: str = "answer") -> str:
    """Returns the label of the option that a gold answer names.

    The answer may be a label or an option's text, exactly; then a label in brackets or of the other case; then, for a
    whole number that is neither, the option's place counted from 0. Raises ValueError if it names no option, or
    several.
    """
    text = str(number_as_text(answer)) if not isinstance(answer, str) else answer
    found = [label for label, _ in choices if text == label] or [label for label, option in choices if text == option]
    place = answer if type(answer) is int and 0 <= answer < len(choices) else None
    by_text = found and not any(text == label for label, _ in choices)
    if place is not None and by_text and found != [choices[place][0]]:
        raise ValueError(
            f"{where}: {field!r} is {answer}, which is the text of option {found[0]} and counted from 0 the place of "
            f"option {choices[place][0]}; write the label"
        )
    if not found:
        folded = _folded(text)
        found = [label for label, option in choices if folded in (_folded(label), _folded(option))]
    if not found and place is not None:
        found = [choices[place][0]]
    if len(found) != 1:
        counted = f"; counted from 0 there are options 0 to {len(choices) - 1}" if type(answer) is int else ""
        raise ValueError(
            f"{where}: {field!r} is {answer!r}, which names none of the options, or several{counted}; write a label: "
            + ", ".join(label for label, _ in choices)
        )
    return found[0]


def _folded(text: str) -> str:
    return text.strip().strip("().:").strip().casefold()
