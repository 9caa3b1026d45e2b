"""Shows a step's responses one by one: the pages of ``carerl rollouts``, from a run's rollout tables."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from carerl.metrics.table import format_number
from carerl.runs.directory import RunDirectory
from carerl.runs.find import find_runs
from carerl.runs.tables import read_rollouts
from carerl.text.printable import printable

Row = Mapping[str, Any]
Piece = tuple[str, float | None]  # text of a token, with the blanks before it, and its divergence in nats

# Lower ends in nats and styles: fixed, so that one colour is one divergence on every page of every run. Both colours
# are set, as a terminal's own background is not known.
HEAT: tuple[tuple[float, str], ...] = (
    (0.05, "black on #fde9b8"),
    (0.2, "black on #fbc26b"),
    (0.5, "black on #f28c4b"),
    (1.0, "white on #d4502f"),
    (2.0, "white on #8e1b1b"),
)
OUTCOME_STYLES = {"correct": "bold green", "wrong": "bold red"}
HOTTEST = 5  # tokens named below a response: colours are lost in a pipe


class RolloutsError(ValueError):
    """Says what the user can mend: no such run, step, outcome or question."""


def open_run(path: str) -> RunDirectory:
    """Opens a run. Raises :class:`RolloutsError` for a path that is no run, or a run without rollout tables."""
    if not Path(path).is_dir():
        raise RolloutsError(f"{path}: no such directory")
    run = RunDirectory(path)
    if any(run.rollouts.glob("step_*.parquet")):
        return run
    if run.config.is_file() or run.summary.is_file():
        raise RolloutsError(
            f"{path}: no rollout tables in rollouts/; tracking.rollouts_every=10 writes one every tenth step"
        )
    try:
        inside = [found.relative_to(Path(path).resolve()).as_posix() for found in find_runs([path])]
    except FileNotFoundError:
        raise RolloutsError(f"{path}: not a run directory (no config.yaml in it)") from None
    raise RolloutsError(f"{path}: not a run, but holds {len(inside)}; name one: {_listed(inside)}")


def steps_of(run: RunDirectory) -> list[int]:
    """Returns the steps with a table, in order."""
    names = (re.fullmatch(r"step_(\d+)\.parquet", path.name) for path in run.rollouts.glob("step_*.parquet"))
    return sorted(int(match[1]) for match in names if match)


def read_step(run: RunDirectory, step: int | None = None) -> tuple[int, list[dict[str, Any]]]:
    """Reads the table of ``step`` (None: the last); returns the step and its rows. Raises RolloutsError for a step
    without a table, or a table that cannot be read."""
    steps = steps_of(run)
    if step is None:
        step = steps[-1]
    if step not in steps:
        raise RolloutsError(f"step={step}: no rollout table; there are steps {_ranges(steps)}")
    try:
        return step, read_rollouts(run.rollout_file(step))
    except (OSError, ValueError) as error:
        raise RolloutsError(f"{run.rollout_file(step)}: cannot be read ({error})") from None


def select(rows: Sequence[Row], outcome: str = "", question: str = "") -> list[Row]:
    """Returns the rows of an outcome and of a question: its id, or the end of it after a slash. Raises RolloutsError if
    there is no such row."""
    chosen = list(rows)
    if question:
        ids = list(dict.fromkeys(str(row.get("example_id")) for row in rows))
        wanted = [i for i in ids if i == question] or [i for i in ids if i.endswith(f"/{question}")]
        if len(wanted) != 1:
            found = f"several: {_listed(wanted)}" if wanted else f"not in this step; there are {_listed(ids)}"
            raise RolloutsError(f"question={question}: {found}")
        chosen = [row for row in chosen if str(row.get("example_id")) == wanted[0]]
    if outcome:
        counts = Counter(str(row.get("outcome")) for row in chosen)
        chosen = [row for row in chosen if str(row.get("outcome")) == outcome]
        if not chosen:
            there = ", ".join(f"{name} ({count})" for name, count in counts.items())
            raise RolloutsError(f"outcome={outcome}: no such response; there are {there}")
    return chosen


def token_pieces(row: Row) -> list[Piece]:
    """Cuts the response at its tokens; returns nothing if the table has no values for them.

    Joined, the pieces are the response. Each token's text is searched for after the end of the last one; blanks between
    two tokens go with the later one. A token that is part of a character has no text of its own: it and those up to the
    next token found share the text between, with the greatest of their divergences.
    """
    texts, heats = row.get("token_text"), row.get("token_rkl")
    response = str(row.get("response") or "")
    if not texts or heats is None or len(texts) != len(heats):
        return []
    found: list[tuple[int, int, list[float | None]]] = []  # start, end, divergences
    waiting: list[float | None] = []
    cursor = 0
    for text, heat in zip(texts, heats, strict=True):
        # A whole token begins at the cursor or behind blanks; after lost tokens it is searched for further on.
        at = response.find(text, cursor) if text and "\ufffd" not in text else -1
        if at < 0 or (not waiting and response[cursor:at].strip()):
            waiting.append(heat)
            continue
        if waiting:
            found.append((cursor, at, waiting))
            cursor, waiting = at, []
        end = at + len(text)
        found.append((cursor, end, [heat]))
        cursor = end
    if waiting or cursor < len(response):
        found.append((cursor, len(response), waiting))
    return [(response[start:end], _greatest(values)) for start, end, values in found if end > start]


def page(row: Row, number: int, total: int) -> RenderableType:
    """Shows everything about one response. ``number`` counts from 1."""
    outcome = str(row.get("outcome"))
    place = f"{number} of {total} · step {row.get('step')} · {row.get('example_id')} · sample {row.get('sample')}"
    parts: list[RenderableType] = [Rule(Text(_shown(place)), align="left", style="bright_black")]
    head = Text(outcome, style=OUTCOME_STYLES.get(outcome, "bold yellow"))
    for name, digits in (("reward", 2), ("confidence", 3), ("advantage", 3), ("mean_logprob", 3)):
        head.append(f"   {name.replace('_', ' ')} ", style="bright_black")
        head.append(format_number(row.get(name), digits), style="default not bold")
    head.append(f"   tokens {row.get('tokens')}", style="bright_black")
    parts.append(head)
    for name in ("answer", "gold"):
        parts.append(_field(name, Text(_shown(row.get(name)))))
    if row.get("likeliest") is not None:  # the reward is for this option
        parts.append(_field("argmax", Text(_shown(f"{row['likeliest']} {row.get('argmax_outcome') or outcome}"))))
    parts.append(_field("prompt", Text(_shown(row.get("prompt")))))
    pieces = token_pieces(row)
    response = Text(_shown(row.get("response")))
    if pieces:
        response = Text.assemble(*((_shown(text), heat_style(heat)) for text, heat in pieces))
    parts.append(_field("response", response))
    parts += _heat_lines(pieces, row)
    return Group(*parts)


def heat_style(divergence: float | None) -> str:
    """Returns the style of the highest threshold reached; no style below the first, or without a value.

    >>> heat_style(0.01), heat_style(0.6), heat_style(None)
    ('', 'black on #f28c4b', '')
    """
    reached = [style for low, style in HEAT if divergence is not None and divergence >= low]
    return reached[-1] if reached else ""


def _heat_lines(pieces: Sequence[Piece], row: Row) -> list[RenderableType]:
    """Shows the scale, and the tokens of the greatest divergence in words."""
    if not pieces:
        why = "its table has no per-token values" if not row.get("token_text") else "the reference was not asked"
        return [Text(f"no divergence by token: {why}", style="bright_black")]
    scale = Text("divergence, nats  ", style="bright_black")
    ends = [f"{low:g}" for low, _ in HEAT]
    for (_, style), low, high in zip(HEAT, ends, [*ends[1:], ""], strict=True):
        scale.append(f" {low}–{high} " if high else f" {low}+ ", style=f"{style} not dim")
    ranked = sorted((p for p in pieces if p[1] is not None), key=lambda p: -float(p[1] or 0))[:HOTTEST]
    words = "  ".join(f"{_shown(text).strip() or repr(text)} {heat:.2f}" for text, heat in ranked)
    return [scale, Text(f"most divergent: {words}", style="bright_black")] if ranked else [scale]


def _field(name: str, value: Text) -> Text:
    return Text.assemble((f"{name:<9}", "bright_black"), value)


def _shown(value: Any) -> str:
    return "–" if value is None else printable(value)


def _greatest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return max(known) if known else None


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = f" … ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _ranges(steps: Sequence[int]) -> str:
    """Shortens steps of equal distance: ``1–200``, ``10, 20, …, 200``.

    >>> _ranges([1, 2, 3, 4]), _ranges([10, 20, 30, 40]), _ranges([5, 7])
    ('1–4', '10, 20, …, 40', '5, 7')
    """
    gaps = {after - before for before, after in pairwise(steps)}
    if len(steps) > 3 and len(gaps) == 1:
        return f"{steps[0]}–{steps[-1]}" if gaps == {1} else f"{steps[0]}, {steps[1]}, …, {steps[-1]}"
    return ", ".join(map(str, steps))
