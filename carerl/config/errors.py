"""What a refused setting looks like: field, value, reason, remedy, nearest key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class ConfigError(ValueError):
    """A setting that is refused, in words for the person who typed it.

    ``str()`` is the whole message, several lines, without a traceback: print it and exit with code 2.
    ``value`` is None where there is none to show.

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
        setting = self.field if self.value is None else f"{self.field} = {_shown(self.value)}"
        own = f"{setting} is refused\n  reason: {self.reason}\n  remedy: {self.remedy}"
        return "\n\n".join([own, *map(str, self.others)])


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) or value != value.strip() or not value else value
    return text if len(text) <= 200 else text[:197] + "..."


def raise_all(errors: Sequence[ConfigError]) -> None:
    """Raises the first error with the rest in ``others``; does nothing when there are none."""
    if errors:
        first, *rest = errors
        raise ConfigError(first.field, first.value, first.reason, first.remedy, rest)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to the given one, or None when nothing is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """A remedy for a word that is not known: the nearest one if there is one, else all of them."""
    known = list(known)
    guess = nearest(word, known)
    if guess is not None:
        return f"did you mean {prefix}{guess}?"
    return "choose one of " + ", ".join(prefix + k for k in known) if known else "remove it"


def unknown_key(path: str, value: Any, owner: str, known: Iterable[str]) -> ConfigError:
    """The error for a key that its section does not have. ``owner`` names the section in words."""
    known = list(known)
    prefix, _, key = path.rpartition(".")
    listing = ", ".join(known) or "no settings"
    return ConfigError(
        path,
        value,
        f"{key} is not a setting of {owner}; it has {listing}",
        suggestion(key, known, prefix + "." if prefix else ""),
    )
