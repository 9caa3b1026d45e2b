"""Writes a profile for people to read: a table of where the time went, trees of functions, and a trace for Perfetto.

A *window* is what was recorded at one time: a few steps, an evaluation. In it the driver's phases are set against what
the main thread of every process did meanwhile:

- computing: in a call, on a core
- copying: arguments and values of calls brought, taken, packed and unpacked
- blocked: in a call, off the core: collectives, devices, other threads of the process, a core in use by others
- waiting: in no call, or for the value of one
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carerl.backends.recording import COPY, PHASE, WAIT, Recording, Span, Stack

KINDS = ("computing", "copying", "blocked", "waiting")
TREE_SHARE = 0.03  # of a process's samples, that a function has to have to be shown
TOP = 12  # functions, and ops, that are listed
DEPTH = 24  # of a tree
LEAST_MS = 0.05  # in a phase, below which a process is not worth a line
PASSING_ON = (
    "module.py:Module._", "torch/_ops.py:", "torch/_compile.py:", "client_mode_hook.py:",
    "recorder.py:timed", "profiling.py:_get", "contextlib.py:", "tracing/tracing_helper.py:",
)  # fmt: skip


@dataclass
class Window:
    """Holds what was recorded at one time. ``units``: the number of its steps, for means. ``whole``: the name of the
    driver's spans that hold a step. ``recordings``: the driver's first."""

    name: str
    units: int
    whole: str
    recordings: list[Recording]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Segment:
    """Holds a time in which one span was the innermost one. ``share``: of that time on a core."""

    begin: int
    end: int
    kind: str
    share: float


def segments(spans: Sequence[Span]) -> list[Segment]:
    """Turns the nested spans of one thread into times that do not overlap."""
    found: list[Segment] = []
    stack: list[tuple[Span, int, list[tuple[int, int]]]] = []  # span, from when it is innermost, its own times

    def close(until: int) -> None:
        while stack and stack[-1][0].end <= until:
            span, since, own = stack.pop()
            if span.end > since:
                own.append((since, span.end))
            found.extend(_own(span, own, children.pop(id(span), 0)))
            if stack:
                parent, _, times = stack[-1]
                stack[-1] = (parent, max(since, span.end), times)

    children: dict[int, int] = defaultdict(int)
    for span in sorted(spans, key=lambda s: (s.begin, -s.end)):
        close(span.begin)
        if stack:
            parent, since, own = stack[-1]
            children[id(parent)] += span.cpu
            if span.begin > since:
                own.append((since, span.begin))
            stack[-1] = (parent, span.begin, own)
        stack.append((span, span.begin, []))
    close(max((s.end for s in spans), default=0))
    return sorted(found, key=lambda s: s.begin)


def _own(span: Span, times: list[tuple[int, int]], children_cpu: int) -> Iterator[Segment]:
    wall = sum(end - begin for begin, end in times)
    share = min(1.0, max(0.0, (span.cpu - children_cpu) / wall)) if wall else 0.0
    for begin, end in times:
        yield Segment(begin, end, span.kind, share)


def spent(found: Sequence[Segment], times: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Splits the times into nanoseconds of each of ``KINDS``, which add up to them."""
    sums = dict.fromkeys(KINDS, 0.0)
    for begin, end in times:
        left = float(end - begin)
        for segment in found:
            both = min(end, segment.end) - max(begin, segment.begin)
            if both <= 0:
                continue
            left -= both
            if segment.kind == COPY:
                sums["copying"] += both
            elif segment.kind == WAIT:
                sums["waiting"] += both
            else:
                sums["computing"] += both * segment.share
                sums["blocked"] += both * (1 - segment.share)
        sums["waiting"] += max(0.0, left)
    return sums


def phases(window: Window) -> dict[str, list[tuple[int, int]]]:
    """Returns the driver's phases with their times; ``between`` has the parts of a step outside all phases."""
    spans = [s for s in window.recordings[0].spans if s.kind == PHASE]
    wholes = [s for s in spans if s.name == window.whole]
    inner = sorted((s for s in spans if s.name != window.whole), key=lambda s: (s.begin, -s.end))
    found: dict[str, list[tuple[int, int]]] = {}
    end = 0
    for span in inner:
        if span.begin >= end and any(w.begin <= span.begin and span.end <= w.end for w in wholes):
            found.setdefault(span.name, []).append((span.begin, span.end))
            end = span.end
    covered = sorted(time for times in found.values() for time in times)
    between: list[tuple[int, int]] = []
    for whole in wholes:
        at = whole.begin
        for begin, stop in [t for t in covered if whole.begin <= t[0] < whole.end] + [(whole.end, whole.end)]:
            if begin > at:
                between.append((at, begin))
            at = max(at, stop)
    return {**found, "between": between}


def table(window: Window) -> list[dict[str, Any]]:
    """Makes rows of phase and process: milliseconds of each of ``KINDS``, mean over units. ``wall``: the phase's own
    length."""
    rows = []
    by_process = [(r.process, segments(r.spans)) for r in window.recordings]
    for phase, times in phases(window).items():
        wall = sum(end - begin for begin, end in times)
        for process, found in by_process:
            sums = {kind: value / 1e6 / window.units for kind, value in spent(found, times).items()}
            rows.append({"phase": phase, "wall": wall / 1e6 / window.units, "process": process, **sums})
    return rows


# ---- text -------------------------------------------------------------------------------------------


def text(windows: Sequence[Window]) -> str:
    """Returns the whole profile as plain text."""
    return "\n".join(line for window in windows for line in (*_window_lines(window), ""))


def _window_lines(window: Window) -> Iterator[str]:
    yield window.name
    yield from (f"  note: {note}" for note in window.notes)
    if any(recording.ops for recording in window.recordings):
        for recording in window.recordings:
            yield from _op_lines(recording, window.units) if recording.ops else ()
        return
    yield from _table_lines(window)
    for recording in window.recordings:
        yield from _function_lines(recording) if recording.samples else ()


def _table_lines(window: Window) -> Iterator[str]:
    rows = table(window)
    width = max([len(row["process"]) for row in rows] + [7])
    yield f"  {f'ms, mean of {window.units}':<16}{'':>9}  {'process':<{width}}" + "".join(f"{k:>11}" for k in KINDS)
    shown, total = "", 0.0
    for row in rows:
        first = row["phase"] != shown
        if first:
            total += row["wall"]
        elif row["computing"] + row["copying"] + row["blocked"] < LEAST_MS:
            continue  # it only waits: not worth a line
        head = f"{row['phase']:<16}{row['wall']:>9.1f}" if first else " " * 25
        shown = row["phase"]
        yield f"  {head}  {row['process']:<{width}}" + "".join(f"{row[kind]:>11.1f}" for kind in KINDS)
    yield f"  {'all':<16}{total:>9.1f}"


def _op_lines(recording: Recording, units: int) -> Iterator[str]:
    yield f"  {recording.process}: ms, mean of {units}"
    gpu = any(op.gpu for op in recording.ops)
    yield f"    {'own':>8}{'with callees':>14}{'on the GPU' if gpu else '':>{12 * gpu}}{'calls':>8}"
    for op in recording.ops[:TOP]:
        own, total = op.own / 1e3 / units, op.total / 1e3 / units
        device = f"{op.gpu / 1e3 / units:>12.1f}" if gpu else ""
        yield f"    {own:>8.1f}{total:>14.1f}{device}{op.calls / units:>8.0f}  {op.name[:80]}"


def _function_lines(recording: Recording) -> Iterator[str]:
    stacks = _telling(recording)
    own = Counter(stack[-1] for stack in stacks)
    yield f"  {recording.process}: {len(stacks)} samples of the main thread in calls; share, function"
    for share, depth, name in tree(recording):
        yield f"    {100 * share:5.1f} %  {'  ' * depth}{name}"
    yield "    without what they call:"
    for function, count in own.most_common(TOP):
        yield f"    {100 * count / len(stacks):5.1f} %  {recording.functions[function]}"


def _telling(recording: Recording) -> list[Stack]:
    """Returns the stacks without the functions that only pass calls on: their time counts for their callers."""
    dull = {number for number, name in enumerate(recording.functions) if any(part in name for part in PASSING_ON)}
    stacks = (tuple(f for f in stack if f not in dull) for _, stack in recording.samples)
    return [stack for stack in stacks if stack]


def tree(recording: Recording) -> list[tuple[float, int, str]]:
    """Lists (share of the samples, depth, function), parents first, from ``TREE_SHARE`` on. A function is left out if
    all its time lies in one other function that it calls."""
    all_stacks = _telling(recording)
    total = len(all_stacks)
    found: list[tuple[float, int, str]] = []

    def walk(stacks: list[Stack], at: int, depth: int) -> None:
        groups: dict[int, list[Stack]] = defaultdict(list)
        for stack in stacks:
            if len(stack) > at:
                groups[stack[at]].append(stack)
        for function, below in sorted(groups.items(), key=lambda item: -len(item[1])):
            if len(below) < TREE_SHARE * total or depth > DEPTH:
                break
            alone = len({s[at + 1] if len(s) > at + 1 else -1 for s in below}) == 1 and len(below[0]) > at + 1
            if not alone:
                found.append((len(below) / total, depth, recording.functions[function]))
            walk(below, at + 1, depth + (not alone))

    walk(all_stacks, 0, 0)
    return found


# ---- trace ------------------------------------------------------------------------------------------


def trace(windows: Sequence[Window]) -> dict[str, Any]:
    """Returns everything in Chrome's trace format, microseconds. Every process has rows for its calls, its sampled
    functions and torch's operations."""
    origin = min((r.begin for w in windows for r in w.recordings), default=0)
    events: list[dict[str, Any]] = []
    named: set[int] = set()
    for window in windows:
        for number, recording in enumerate(window.recordings):
            if recording.pid not in named:
                named.add(recording.pid)
                events += _names(recording, number)
            events += [
                _event(recording.pid, 0, s.name, s.kind, s.begin - origin, s.end - origin) for s in recording.spans
            ]
            events += [_event(recording.pid, 1, *function, origin) for function in _flame(recording)]
            events += [
                _event(recording.pid, 2, name, "op", begin - origin, end - origin)
                for name, begin, end in recording.op_events
            ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _names(recording: Recording, number: int) -> Iterator[dict[str, Any]]:
    about = f"{recording.process} ({recording.host}, pid {recording.pid})"
    yield {"ph": "M", "pid": recording.pid, "name": "process_name", "args": {"name": about}}
    yield {"ph": "M", "pid": recording.pid, "name": "process_sort_index", "args": {"sort_index": number}}
    for thread, name in enumerate(("calls", "functions, sampled", "torch's operations")):
        yield {"ph": "M", "pid": recording.pid, "tid": thread, "name": "thread_name", "args": {"name": name}}


def _event(pid: int, thread: int, name: str, kind: str, begin: int, end: int, origin: int = 0) -> dict[str, Any]:
    ts, dur = (begin - origin) / 1e3, max(0, end - begin) / 1e3
    return {"ph": "X", "pid": pid, "tid": thread, "name": name, "cat": kind, "ts": ts, "dur": dur}


GAP = 20_000_000  # nanoseconds without a sample after which a function counts as ended


def _flame(recording: Recording) -> Iterator[tuple[str, str, int, int]]:
    """Yields functions of consecutive samples as one time each."""
    open_: list[tuple[int, int]] = []  # function, since
    last = 0
    for when, stack in recording.samples:
        same = 0
        if when - last < GAP:
            while same < min(len(open_), len(stack)) and open_[same][0] == stack[same]:
                same += 1
        for function, since in reversed(open_[same:]):
            yield recording.functions[function], "function", since, min(when, last + GAP)
        open_[same:] = [(function, when) for function in stack[same:]]
        last = when
    for function, since in reversed(open_):
        yield recording.functions[function], "function", since, last


def write_profile(directory: Path, windows: Sequence[Window]) -> Path:
    """Writes ``profile.txt`` and ``profile.json`` into the run's directory; returns the path of the first."""
    page = directory / "profile.txt"
    page.write_text(text(windows), encoding="utf-8")
    (directory / "profile.json").write_text(json.dumps(trace(windows)), encoding="utf-8")
    return page


__all__ = ["Window", "phases", "segments", "spent", "table", "text", "trace", "tree", "write_profile"]
