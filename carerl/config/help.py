"""``--help``: the form of a command and its recipes; ``--help SECTION``: every setting of a section, with its type,
default, bounds and the comment beside it.

    python -m carerl.run --help rollout              a section; learner.optimizer is one too, run has what is in none
    python -m carerl.run --help algorithm            every choice of a section that is chosen by name
    python -m carerl.run --help algorithm=dapo       one of them
    python -m carerl.run --help lr                   a setting, wherever it is

The words come from the dataclasses' own source, so that they cannot differ from it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from carerl.config.load import parse
from carerl.config.reading import compose
from carerl.config.schema import RunConfig
from carerl.config.tables import CHOICES, base_of
from carerl.errors import SURE, ConfigError, nearest, shown
from carerl.settings import bounds_of

HELP = ("-h", "--help", "help", "recipe=?", "recipe=")
TOP = "run"  # the topic of settings that are in no section
WIDTH = 120
GUESSES = 4  # for a word that is no topic
# what settings are called elsewhere
ELSEWHERE = {
    "learning_rate": ("lr",), "batch_size": ("prompts_per_step", "micro_batch_rows"), "max_steps": ("steps",),
    "num_generations": ("group_size",), "kl": ("beta",), "kl_coef": ("beta",), "max_length": ("max_model_len",),
    "output": ("run_dir",), "output_dir": ("run_dir",), "num_epochs": ("epochs",),
}  # fmt: skip
MARKUP = re.compile(r":\w+:`~?([^`]+)`|``?([^`]+)``?")


@dataclass(frozen=True)
class Setting:
    """One setting as a person sees it."""

    path: str
    type: str
    default: str
    meaning: str  # the comment beside it, and its bounds


def wants_help(argv: Sequence[str]) -> bool:
    """Returns whether a command line asks for :func:`help_text` and not for a run."""
    return not argv or any(word in HELP or word.lstrip("-").startswith("help=") for word in argv)


def usage() -> str:
    """Returns what ``--help`` and ``recipe=?`` print: the form of a command, the recipes and the tables."""
    sections = ", ".join(path for path, _ in _sections(RunConfig, "") if path != TOP)
    lines = ["carerl run recipe=NAME [key=value ...]", ""]
    lines += [
        "  carerl run recipe=care_grpo_tiny                              train, evaluate, report",
        "  carerl run recipe=care_grpo_tiny regularizer.alpha=0.9 seed=7",
        "  carerl run recipe=care_grpo_7b dry_run=true                   plan only: actors, batches, memory",
        "  carerl run recipe=care_grpo_7b rehearse=true                  all of it on this machine's CPU, made small",
        "  carerl run recipe=care_grpo_3b scale=16_gpus                  the same on other GPUs",
        "  carerl run resume=RUN_DIR                                     resume an earlier run",
        "  carerl run --help rollout                                     all settings of a section, with units",
        "  carerl run --help algorithm=dapo                              those of one choice",
        "",
        *textwrap.wrap(f"sections: {TOP} (what is in none), {', '.join(CHOICES)}, {sections}", WIDTH),
        "",
        "recipes (from ./recipes, then from the package):",
    ]
    lines += _columns(compose.recipe_lines())
    lines += ["", "scale is one of:", *_columns(compose.scale_lines())]
    for section, table in CHOICES.items():
        lines += ["", f"{section}.name is one of:", *_columns([(n, e.line) for n, e in table.items()])]
    return "\n".join(lines)


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [f"  {name:<{width}}  {line}".rstrip() for name, line in rows]


def help_text(argv: Sequence[str]) -> str:
    """Returns what a command line with ``--help`` in it asks for: the usage, or a section for each further word.

    Raises ConfigError for a word that is neither a section nor a setting."""
    words = [word.removeprefix("--").removeprefix("help=") for word in argv if word not in HELP]
    for word in words:
        if word.startswith("plugins="):  # their choices are explained too
            compose.import_plugins(compose.as_plugins(parse([word])["plugins"]))
    topics = [word for word in words if "=" not in word or word.partition("=")[0].removesuffix(".name") in CHOICES]
    return "\n\n".join(map(topic_text, topics)) if topics else usage()


def topic_text(topic: str) -> str:
    """Returns the settings of a section, of one choice (``algorithm=dapo``), or of one name, as lines of text."""
    section, _, name = topic.partition("=")
    section = section.removesuffix(".name")
    if section in CHOICES:
        return _choice_text(section, name) if name else _choices_text(section)
    sections = dict(_sections(RunConfig, ""))
    if topic in sections:
        title = "settings of a run that are in no section" if topic == TOP else f"section {topic}"
        inner = [path for path in sections if path.startswith(f"{topic}.")]
        if topic == TOP:
            inner = [path for path in (*sections, *CHOICES) if "." not in path and path != TOP]
        more = [textwrap.fill(f"further sections: {', '.join(inner)}", WIDTH)] if inner else []
        return "\n".join([title, *_described(sections[topic]), *_lines(_settings(topic, sections[topic])), *more])
    found = [s for s in every_setting() if s.path == topic or s.path.rpartition(".")[2] == topic]
    if found:
        return "\n".join(_lines(list(dict.fromkeys(found))))
    listing = ", ".join([*sections, *CHOICES])
    guesses = _meant(topic, [*sections, *CHOICES])
    remedy = f"did you mean --help {' or '.join(guesses)}?" if guesses else f"choose one of {listing}"
    raise ConfigError("--help", topic, f"it is no section and no setting; the sections are {listing}", remedy)


def _meant(topic: str, sections: list[str]) -> list[str]:
    """Guesses the topic that an unknown word stands for: a choice of this name, a setting that other libraries call so,
    a very similar topic, or topics that share a word with it. A slight similarity is no guess."""
    topic = topic.lower().replace("-", "_")
    if chosen := [f"{section}={topic}" for section, table in CHOICES.items() if topic in table]:
        return chosen
    if topic in ELSEWHERE:
        return list(ELSEWHERE[topic])
    paths = [*sections, *(s.path for s in every_setting())]
    names: dict[str, str] = {}
    for path in paths:  # a section is asked for by its whole path, a setting by its name
        names.setdefault(path.rpartition(".")[2], path if path in sections else path.rpartition(".")[2])
    if topic in names:
        return [names[topic]]
    if guess := nearest(topic, [*names, *paths], SURE):
        return [names.get(guess, guess)]
    words = set(topic.split("_"))
    return list(dict.fromkeys(shown for name, shown in names.items() if words & set(name.split("_"))))[:GUESSES]


def every_setting() -> list[Setting]:
    """Returns all settings: of the run, of its sections, and of every choice."""
    found = [s for path, cls in _sections(RunConfig, "") for s in _settings(path, cls)]
    chosen = [
        s for section, table in CHOICES.items() for entry in table.values() for s in _settings(section, entry.config)
    ]
    return list(dict.fromkeys([*found, *chosen]))


def _choices_text(section: str) -> str:
    """Returns all choices of a section. A setting that several have alike is explained once."""
    explained: dict[Setting, str] = {}  # the choice where each setting is explained
    said: set[str] = set()
    texts = []
    for name, entry in CHOICES[section].items():
        settings = [s for s in _settings(section, entry.config) if s.path != f"{section}.name"]
        words = [text for text in _described(entry.config, base_of(section)) if text not in said]
        lines = [f"{section}.name={name}: {entry.line}", *words, *_lines([s for s in settings if s not in explained])]
        for other in dict.fromkeys(explained[s] for s in settings if s in explained):
            same = ", ".join(s.path.rpartition(".")[2] for s in settings if explained.get(s) == other)
            lines.append(textwrap.fill(f"  as in {section}={other}: {same}", WIDTH, subsequent_indent="    "))
        said.update(words)
        explained |= {setting: name for setting in settings if setting not in explained}
        texts.append("\n".join(lines))
    return "\n\n".join(texts)


def _choice_text(section: str, name: str) -> str:
    table = CHOICES[section]
    if name not in table:
        guess = nearest(name, table)
        remedy = f"did you mean --help {section}={guess}?" if guess else f"choose one of {', '.join(table)}"
        raise ConfigError("--help", f"{section}={name}", f"there is no {section} of this name", remedy)
    entry = table[name]
    lines = _lines([s for s in _settings(section, entry.config) if s.path != f"{section}.name"])
    words = _described(entry.config, base_of(section))
    return "\n".join([f"{section}.name={name}: {entry.line}", *words, *lines])


@functools.cache
def _sections(cls: type, prefix: str) -> tuple[tuple[str, type], ...]:
    """Returns the dotted names of the sections with their dataclasses, the run itself first."""
    found = [] if prefix else [(TOP, cls)]
    for key, hint in get_type_hints(cls).items():
        if key not in CHOICES and is_dataclass(hint) and isinstance(hint, type):
            found += [(prefix + key, hint), *_sections(hint, f"{prefix}{key}.")]
    return tuple(found)


@functools.cache
def _settings(section: str, cls: type) -> tuple[Setting, ...]:
    """Returns the settings of one dataclass, without those of the sections in it."""
    hints, comments, found = get_type_hints(cls), field_comments(cls), []
    for field in fields(cls):
        hint = hints[field.name]
        if is_dataclass(hint) or (cls is RunConfig and field.name in CHOICES):
            continue
        path = field.name if section == TOP else f"{section}.{field.name}"
        words = comments.get(field.name, "")
        limits = [bound.words for bound in bounds_of(cls)[field.name] if not _named(bound.words, words)]
        kind = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
        found.append(Setting(path, kind, _default(field), "; ".join(part for part in (words, *limits) if part)))
    return tuple(found)


def _named(limit: str, words: str) -> bool:
    """Returns True if a comment names all values of a limit already."""
    return limit.startswith("one of ") and all(name in words for name in limit.removeprefix("one of ").split(", "))


def _default(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return repr(field.default_factory())
    if field.default is MISSING:
        return ""
    value = field.default
    return str(value).lower() if isinstance(value, bool) else shown(value)


@functools.cache
def field_comments(cls: type) -> dict[str, str]:
    """Returns the comments of a dataclass's fields by name, inherited fields too: those on a field's own lines, and
    whole lines right above it. A field that is defined again without a comment keeps its base's."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if is_dataclass(owner):
            found |= _own_comments(owner)
    return found


def _own_comments(cls: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(cls))
    at_line: dict[int, str] = {}
    alone: set[int] = set()  # lines that hold nothing but a comment
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("# fmt:"):
            at_line[token.start[0]] = token.string.lstrip("# ")
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    comments = {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first, last = node.lineno, node.end_lineno or node.lineno
            while first - 1 in alone:
                first -= 1
            words = [at_line[line] for line in range(first, last + 1) if at_line.get(line)]
            if words:
                comments[node.target.id] = " ".join(words)
    return comments


def _described(cls: type, above: type | None = None) -> list[str]:
    """Returns what a dataclass and those that it inherits say of themselves, its own words first. Left out: generated
    docstrings, and the words of ``above``, the base of all choices."""
    owners = [owner for owner in cls.__mro__ if is_dataclass(owner) and owner is not above]
    texts = [owner.__doc__ or "" for owner in owners if "__doc__" in vars(owner)]
    written = [inspect.cleandoc(text) for text in texts if not re.match(r"\w+\(", text)]
    plain = [MARKUP.sub(lambda m: m[1] or m[2], " ".join(text.split())) for text in written]
    return [textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ") for text in plain]


def _lines(settings: Sequence[Setting]) -> list[str]:
    """Makes a table of settings; a meaning that is too long for its column continues below."""
    rows = [(s.path, s.type, s.default, s.meaning) for s in settings]
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
    widths[2] = min(widths[2], 30)
    lines = []
    for *cells, meaning in rows:
        head = "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        room = max(40, WIDTH - 2 - sum(widths) - 6)
        first, *rest = textwrap.wrap(meaning, room) or [""]
        lines.append(f"{head}  {first}".rstrip())
        lines += [" " * (len(head) + 2) + part for part in rest]
    return lines
