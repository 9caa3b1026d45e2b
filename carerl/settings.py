"""Makes dataclasses of settings: bounds beside the fields, and a check of its own for each.

    @dataclass
    class MyConfig(PenaltyConfig):
        name: str = "mine"
        width: Annotated[float, above(0)] = 1.0  # nats

A value beyond its bound is refused whatever the other settings are, and ``--help`` prints the bound. ``check`` sees
the whole run, and refuses settings that are legal one by one and wrong together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

from carerl.errors import ConfigError, suggestion

Errors = Iterator[ConfigError]


class Bound(Protocol):
    """A limit of one setting. ``words``: the limit as ``--help`` prints it, '' for one that needs no words."""

    @property
    def words(self) -> str: ...

    def errors(self, key: str, value: Any) -> Errors:
        """Yields an error, under the dotted name ``key``, if the value is beyond the limit."""
        ...


@dataclass(frozen=True)
class Limit:
    """A limit that a function decides. ``{key}`` in the remedy stands for the setting's dotted name."""

    words: str
    holds: Callable[[Any], bool]
    reason: str
    remedy: str

    def errors(self, key: str, value: Any) -> Errors:
        if not self.holds(value):
            yield ConfigError(key, value, self.reason, self.remedy.format(key=key))


@dataclass(frozen=True, eq=False)
class OneOf:
    """A value of a tuple or a table. A table is read when it is asked, so that lines of plugins count.
    '' may be among the names and is not listed."""

    names: Collection[Any]

    @property
    def words(self) -> str:
        return "one of " + ", ".join(self._listed())

    def errors(self, key: str, value: Any) -> Errors:
        if value not in self.names:
            listed = self._listed()
            yield ConfigError(key, value, f"it must be {self.words}", suggestion(str(value), listed, f"{key}="))

    def _listed(self) -> list[str]:
        return [str(name) for name in self.names if name != ""]


def one_of(names: Collection[Any]) -> OneOf:
    """Bounds a setting to the names of a tuple or a table."""
    return OneOf(names)


def at_least(low: float) -> Limit:
    """Bounds a number from below; ``low`` itself is legal."""
    return Limit(
        f"at least {low:g}",
        lambda value: value >= low,
        f"it must be at least {low:g}",
        f"write {{key}}={low:g} or more",
    )


def at_most(high: float, why: str) -> Limit:
    """Bounds a number from above, for a reason that the refusal gives; ``high`` itself is legal."""
    reason = f"it must be at most {high:g}: {why}"
    return Limit(f"at most {high:g}", lambda value: value <= high, reason, f"write {{key}}={high:g} or less")


def above(low: float) -> Limit:
    """Bounds a number from below; ``low`` itself is not legal."""
    return Limit(
        f"above {low:g}",
        lambda value: value > low,
        f"it must be above {low:g}",
        f"write {{key}}=<a number above {low:g}>",
    )


def share(example: float) -> Limit:
    """Bounds a number to 0 to 1, both legal. ``example``: a value for the remedy."""
    reason, remedy = "it must lie between 0 and 1", f"write {{key}}=<0 to 1>, e.g. {example:g}"
    return Limit("0 to 1", lambda value: 0 <= value <= 1, reason, remedy)


class Lengths(Protocol):
    """The lengths of a run's rollouts, tokens."""

    @property
    def max_new_tokens(self) -> int: ...
    @property
    def max_model_len(self) -> int: ...


class Run(Protocol):
    """The settings of a whole run, as far as the check of one part may look at them."""

    @property
    def seed(self) -> int: ...
    @property
    def prompts_per_step(self) -> int: ...
    @property
    def dry_run(self) -> bool: ...
    @property
    def rollout(self) -> Lengths: ...
    @property
    def starts_engines(self) -> bool: ...
    @property
    def trains_on_questions(self) -> bool: ...
    @property
    def taught(self) -> bool: ...
    @property
    def prefers(self) -> bool: ...
    @property
    def evaluates(self) -> bool: ...


class Settings:
    """The base of every dataclass of settings."""

    def check(self, run: Run) -> Errors:
        """Yields an error for each fault that no bound of a single field shows. All values of the run are within their
        bounds by then. A subclass yields from its base's check first."""
        yield from ()


def changed(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Yields (name, value) of every setting of a section that is not its default."""
    usual = type(settings)()
    return ((name, value) for name, value in vars(settings).items() if value != getattr(usual, name))


@functools.cache
def bounds_of(cls: type) -> dict[str, tuple[Bound, ...]]:
    """Returns the bounds of a dataclass's fields by name, inherited fields included. A field that is defined again
    without a bound keeps its base's."""
    found: dict[str, tuple[Bound, ...]] = {}
    for owner in reversed(cls.__mro__):
        hints = get_type_hints(owner, include_extras=True)
        for name in vars(owner).get("__annotations__", ()):
            own = tuple(get_args(hints[name])[1:]) if get_origin(hints[name]) is Annotated else ()
            found[name] = own or found.get(name, ())
    return found


def bound_errors(settings: Any, prefix: str = "") -> Errors:
    """Walks a dataclass and the dataclasses in it. Yields an error for every number that is not finite and every value
    beyond a bound of its field; ``prefix``: the dotted name of the section, with its dot."""
    for field in fields(settings):
        key, value = prefix + field.name, getattr(settings, field.name)
        if is_dataclass(value) and not isinstance(value, type):
            yield from bound_errors(value, f"{key}.")
        elif _endless(value):
            yield ConfigError(key, value, "it is not a finite number", f"write {key}=<a finite number>")
        else:
            owner: type = type(settings)
            for bound in bounds_of(owner)[field.name]:
                yield from bound.errors(key, value)


def _endless(value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return any(isinstance(number, float) and not math.isfinite(number) for number in numbers)


def checks(settings: Any, run: Run) -> Errors:
    """Walks a dataclass and the dataclasses in it. Yields what their own checks find."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, Settings):
            yield from value.check(run)
            yield from checks(value, run)
