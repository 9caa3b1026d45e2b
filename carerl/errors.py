"""Defines the error of a refused setting: field, value, reason, remedy, nearest key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from carerl.text.printable import printable
from carerl.text.redaction import REDACTED, SECRET_NAME, redact_text

SURE = 0.75  # similarity from which a setting of another section is suggested


class ConfigError(ValueError):
    """Says that a setting is refused, in words for the person who typed it.

    ``str()`` is the whole message, several lines, without a traceback and without secrets: print it and exit with code
    2. ``value`` is None where there is none to show.

    >>> print(ConfigError("seed", -1, "a seed is 0 or more", "give another seed"))
    seed = -1 is refused
      reason: a seed is 0 or more
      remedy: give another seed
    """

    def __init__(self, field: str, value: Any, reason: str, remedy: str, others: Sequence[ConfigError] = ()) -> None:
        super().__init__(field, value, reason, remedy)
        self.field = field
        self.value = value
        self.reason = reason
        self.remedy = remedy
        self.others = tuple(others)  # further errors found in the same pass

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.value, self.reason, self.remedy, self.others)

    def __str__(self) -> str:
        setting = self.field if self.value is None else f"{self.field} = {shown(self.value)}"
        own = f"{setting} is refused\n  reason: {self.reason}\n  remedy: {self.remedy}"
        return "\n\n".join([printable(redact_text(own)), *map(str, self.others)])


def shown(value: Any) -> str:
    """Writes a value for a message: text without quotes unless it needs them, long values cut."""
    text = repr(value) if not isinstance(value, str) or value != value.strip() or not value else value
    return text if len(text) <= 200 else text[:197] + "..."


def raise_all(errors: Sequence[ConfigError]) -> None:
    """Raises the first error with the rest in ``others``; does nothing when there are none."""
    if errors:
        first, *rest = errors
        raise ConfigError(first.field, first.value, first.reason, first.remedy, rest)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """Returns the known word closest to the given one, or None if the similarity of all is below ``cutoff``."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def closest(word: str, known: Iterable[str]) -> float:
    """Returns the similarity, 0 to 1, of the given word to the nearest known one."""
    return max((difflib.SequenceMatcher(None, word, k).ratio() for k in known), default=0.0)


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Writes the remedy for an unknown word: the nearest known one if there is one, else all of them."""
    known = list(known)
    guess = nearest(word, known)
    if guess is not None:
        return f"did you mean {prefix}{guess}?"
    return "choose one of " + ", ".join(prefix + k for k in known) if known else "remove it"


def unknown_key(path: str, value: Any, owner: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> ConfigError:
    """Returns the error for a key that its section does not have. ``owner`` names the section in words. ``elsewhere``:
    dotted names of other sections' settings. One that ends in the same key is suggested (``learner.optimizer.lr`` for
    ``lr``); one that is only similar must be more similar than every key of the section. A key of the section that is
    nearly what was typed is suggested before it (``learner.ranks`` for ``learner.rank``)."""
    known = list(known)
    prefix, _, key = path.rpartition(".")
    by_name: dict[str, list[str]] = {}
    for setting in elsewhere:
        by_name.setdefault(setting.rpartition(".")[2], []).append(setting)
    similar = nearest(key, by_name, SURE)
    if similar is not None and closest(key, [similar]) > closest(key, known):
        own = nearest(key, known, SURE)
        meant = [path.removesuffix(key) + own] if own else []
        remedy = f"did you mean {' or '.join([*meant, *by_name[similar]])}?"
    else:
        remedy = suggestion(key, known, prefix + "." if prefix else "")
    listing = ", ".join(known) or "no settings"
    if SECRET_NAME.search(key) and not key.lower().endswith("tokens"):
        value = REDACTED  # no setting is one, and what was typed may be
    return ConfigError(path, value, f"{key} is not a setting of {owner}; it has {listing}", remedy)
