"""Checks of ``decode``: methods of inference that an evaluation compares."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from carerl.config.schema import RunConfig
from carerl.errors import ConfigError, suggestion
from carerl.inference.config import DecodeConfig
from carerl.inference.methods import METHODS
from carerl.records.spread import MOST_TOP
from carerl.settings import Errors, Settings, changed


def decode_pairings(c: RunConfig) -> Errors:
    """Refuses decoding in a run that trains, settings of it that nothing would read, methods that there are not,
    distributions that cannot be decoded from, and more of the likeliest tokens than an engine gives."""
    decode = c.decode
    if c.does.trains and decode.methods:
        yield ConfigError(
            "decode.methods",
            decode.methods,
            f"a run of kind {c.kind} trains: it does not compare methods of inference",
            "leave it out, and write it when the model is evaluated: carerl evaluate model=DIR decode.methods=[…]",
        )
        return
    if not decode.methods:
        if (key := next((key for key, _ in changed(decode)), None)) is not None:
            reason = "there is no method of inference that it could concern"
            yield ConfigError(
                f"decode.{key}", None, reason, f"write decode.methods=[{','.join(METHODS)}], or leave it out"
            )
        return
    for method in decode.methods:
        if method not in METHODS:
            yield ConfigError("decode.methods", method, "there is no such method", suggestion(method, METHODS))
        elif decode.methods.count(method) > 1:
            yield ConfigError("decode.methods", decode.methods, f"it names {method} twice", "name each method once")
        else:
            continue
        return
    yield from _distribution(c)
    yield from _unread(decode)
    if decode.top > MOST_TOP:
        reason = f"an engine gives at most {MOST_TOP} of the likeliest tokens"
        yield ConfigError("decode.top", decode.top, reason, f"write decode.top={MOST_TOP} or less")


def _distribution(c: RunConfig) -> Errors:
    """Refuses top-p and top-k, which methods do not draw with, and a temperature of 0 for methods that sample."""
    for key, off in (("top_p", 1.0), ("top_k", -1)):
        if (value := getattr(c.evaluation, key)) != off:
            yield ConfigError(
                f"evaluation.{key}",
                value,
                "methods of inference draw from the whole distribution, and the ordinary samples beside them would not",
                "leave it out, or leave decode.methods out",
            )
    sampling = [name for name in c.decode.methods if METHODS[name].samples]
    if sampling and not (c.decode.temperature or c.evaluation.temperature):
        yield ConfigError(
            "evaluation.temperature",
            c.evaluation.temperature,
            f"{' and '.join(sampling)} would draw the same response again and again",
            "write decode.temperature=1, or decode.methods=[greedy]",
        )


def _unread(decode: DecodeConfig) -> Errors:
    """Refuses settings that no method of ``decode.methods`` reads."""
    given = dict(_given(decode, DecodeConfig(), "decode"))
    for condition, keys, reader in READERS:
        for key in keys:
            if key in given and not condition(decode):
                yield ConfigError(key, given[key], f"nothing would read it: {reader}", "leave it out")


def _given(now: Settings, default: Settings, place: str) -> Iterator[tuple[str, object]]:
    """Returns the settings that differ from their defaults, with their names."""
    for key, value in vars(now).items():
        usual, name = getattr(default, key), f"{place}.{key}"
        if isinstance(value, Settings):
            yield from _given(value, usual, name)
        elif value != usual:
            yield name, value


def _among(*names: str) -> Callable[[DecodeConfig], bool]:
    """Makes the condition that one of these methods decodes."""
    return lambda decode: any(name in decode.methods for name in names)


def _learns(name: str) -> Callable[[DecodeConfig], bool]:
    """Makes the condition that this method decodes with a threshold that it learns."""
    return lambda decode: name in decode.methods and METHODS[name].learns(decode)


# when settings are read, which settings, and in words by whom.
READERS: Sequence[tuple[Callable[[DecodeConfig], bool], Collection[str], str]] = (
    (
        lambda decode: any(METHODS[name].samples for name in decode.methods),
        ("decode.budget", "decode.temperature"),
        "greedy draws one response at temperature 0",
    ),
    (
        lambda decode: any(METHODS[name].reads_spreads for name in decode.methods),
        ("decode.top",),
        "none of decode.methods looks at how sure the model was",
    ),
    (
        lambda decode: any(METHODS[name].learns(decode) for name in decode.methods),
        ("decode.validation_questions",),
        "none of decode.methods learns a threshold",
    ),
    (
        _among("cat"),
        ("decode.cat.threshold", "decode.cat.cumulative", "decode.cat.reallocate"),
        "cat is not among decode.methods",
    ),
    (_learns("cat"), ("decode.cat.quantile",), "only cat does, where it learns its threshold"),
    (
        _among("deepconf"),
        ("decode.deepconf.warmup", "decode.deepconf.quantile"),
        "deepconf is not among decode.methods",
    ),
    (
        _among("deepconf", "deepconf_offline"),
        ("decode.deepconf.window", "decode.deepconf.measure"),
        "neither deepconf nor deepconf_offline is among decode.methods",
    ),
    (_among("deepconf_offline"), ("decode.deepconf.keep",), "deepconf_offline is not among decode.methods"),
    (_among("self_certainty"), ("decode.self_certainty.vote",), "self_certainty is not among decode.methods"),
    (
        lambda decode: "self_certainty" in decode.methods and decode.self_certainty.vote == "borda",
        ("decode.self_certainty.power",),
        "only self_certainty with decode.self_certainty.vote=borda does",
    ),
)
