"""Draws the live panel: one screenful (at most 17 lines of 80 columns) that is redrawn in place."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from carerl.metrics.table import clock, compact_number, format_number, metric_line, names_in, shown_in
from carerl.text.printable import printable
from carerl.tracking.pace import Pace

TIME_COLOURS = ("cyan", "yellow", "magenta", "green", "blue")  # of the parts of a step's time, in their order
OTHER_COLOUR = "bright_black"
BLOCKS = "▁▂▃▄▅▆▇█"
HISTORY = 400
SPARK_WIDTH = 14
WIDTH = 100


def sparkline(values: list[float], width: int = SPARK_WIDTH) -> str:
    """Draws the course of a metric in ``width`` characters, scaled between its least and its largest value.

    >>> sparkline([0.0, 0.5, 1.0]), sparkline([2.0, 2.0]), sparkline([])
    ('▁▅█', '▁▁', '')
    """
    values = [value for value in values if value == value and abs(value) != float("inf")]
    if not values:
        return ""
    if len(values) > width:  # means over equal stretches
        cuts = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    low, high = min(values), max(values)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[int((value - low) * scale + 0.5)] for value in values)


@dataclass(frozen=True, slots=True)
class _Progress:
    """Holds a job beside the steps: ``first`` was done when it was first seen, at time ``since``."""

    done: int
    total: int
    text: str
    first: int
    since: float


class LiveDisplay:
    """Draws from its state in rich's refresh thread; every change of state is made under a lock."""

    def __init__(
        self,
        total_steps: int,
        title: str,
        *,
        file: IO[str] | None = None,
        console: Console | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps = total_steps
        self.title = title
        self._console = console or Console(file=file or sys.stdout)
        self._lock = threading.Lock()
        self._pace = Pace(total_steps, now)
        self._now = now
        self._stage, self._stage_since = "starting", now()
        self._progress: _Progress | None = None
        self._step = 0
        self._metrics: dict[str, float] = {}
        self._history: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=HISTORY))
        self._first_evaluation: dict[str, float] | None = None
        self._evaluation: tuple[int, dict[str, float]] | None = None
        self._note = ""
        # transient: what stays on the screen at the end is the summary table, not the panel
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True)
        self._live.start()
        self._open = True

    def stage(self, name: str) -> None:
        with self._lock:
            if name != self._stage:
                self._stage, self._stage_since = name, self._now()

    def progress(self, done: int, total: int, text: str = "") -> None:
        with self._lock:
            if done >= total:
                self._progress = None
            elif self._progress and self._progress.total == total and self._progress.done <= done:
                # the text may change from call to call; it is still the same job
                self._progress = replace(self._progress, done=done, text=text)
            else:
                self._progress = _Progress(done, total, text, done, self._now())

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        with self._lock:
            self._pace.step(step)
            self._step = step
            self._metrics = dict(metrics)
            for name in names_in("step"):
                if name in metrics:
                    self._history[name].append(metrics[name])

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        with self._lock:
            if self._first_evaluation is None:
                self._first_evaluation = dict(metrics)
            self._evaluation = (step, dict(metrics))

    def message(self, text: str) -> None:
        """Prints a text above the panel, so that it can be read after it has scrolled by."""
        if self._open:
            self._console.print(printable(text), markup=False, highlight=False, emoji=False)

    def warning(self, text: str) -> None:
        self.message(f"warning: {text}")

    def close(self) -> None:
        if self._open:
            self._open = False
            self._live.stop()

    def _render(self) -> RenderableType:
        with self._lock:
            blocks: list[RenderableType] = [self._steps_line()]
            if self._progress is not None:
                blocks.append(self._progress_line(self._progress))
            if self._metrics:
                blocks += [Text(), self._metric_grid(), Text(), *self._time_lines()]
            if self._evaluation is not None:
                blocks += [Text(), *self._evaluation_lines(*self._evaluation)]
        return Panel(
            Group(*blocks),
            title=Text(printable(self.title), style="bold"),
            title_align="left",
            box=box.ROUNDED,
            border_style="bright_black",
            padding=(0, 1),
            width=min(self._console.width, WIDTH),
        )

    def _steps_line(self) -> RenderableType:
        inside = self._now() - self._stage_since
        waited = f" {clock(inside)}" if inside >= 3 else ""
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=24, no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_row(
            Text.assemble(("● ", "green"), (printable(self._stage), "bold"), (waited, "bright_black")),
            ProgressBar(total=max(1, self.total_steps), completed=self._step, complete_style="green"),
            Text(f"{self._step}/{self.total_steps}"),
            Text(
                f"{clock(self._pace.left())} left" if self._step else clock(self._pace.elapsed()),
                style="bright_black",
            ),
        )
        return grid

    def _progress_line(self, job: _Progress) -> RenderableType:
        spent, made = self._now() - job.since, job.done - job.first
        left = f"{clock(spent / made * (job.total - job.done))} left" if made else ""
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=24, no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_row(
            Text(f"  {printable(job.text)}"),
            ProgressBar(total=max(1, job.total), completed=job.done, complete_style="cyan"),
            Text(f"{job.done}/{job.total}"),
            Text(left, style="bright_black"),
        )
        return grid

    def _metric_grid(self) -> RenderableType:
        """Draws two metrics a row: label, value, course."""
        grid = Table.grid(padding=(0, 1), expand=True)
        for _ in range(2):
            grid.add_column(style="bright_black", no_wrap=True)
            grid.add_column(justify="right", min_width=8, no_wrap=True)
            grid.add_column(style="cyan", width=SPARK_WIDTH + 2, no_wrap=True)
        cells = []
        for metric in shown_in("step"):
            if metric.name in self._metrics:
                value = Text(compact_number(self._metrics[metric.name]), style="bold")
                cells.append((metric.short, value, sparkline(list(self._history[metric.name]))))
        for left, right in zip(cells[::2], [*cells[1::2], ("", Text(), "")], strict=False):
            grid.add_row(*left, *right)
        return grid

    def _time_lines(self) -> list[RenderableType]:
        """Draws one bar for the step's time, split into its parts, and its legend in percent."""
        parts = {part.kind: self._metrics.get(part.name, 0.0) for part in shown_in("time")}
        known = sum(parts.values())
        total = max(self._metrics.get("time/step", known), known)
        if total <= 0:
            return []
        shares = {name: seconds / total for name, seconds in parts.items() if seconds > 0}
        if total - known > 0.005 * total:
            shares["other"] = (total - known) / total
        colours = dict(zip(parts, itertools.cycle(TIME_COLOURS), strict=False)) | {"other": OTHER_COLOUR}
        inner = min(self._console.width, WIDTH) - 4
        label = f"step {total:.2f} s  "
        bar = Text(label)
        edges = 0.0
        for name, share in shares.items():
            begin, edges = edges, edges + share * (inner - len(label))
            bar.append("━" * (round(edges) - round(begin)), style=colours[name])
        legend = Text()
        for name, share in shares.items():
            legend.append("■ ", style=colours[name])
            short = "ref" if name == "reference" else name  # all six fit into 76 columns
            legend.append(f"{short} {100 * share:.0f}%  ", style="bright_black")
        return [bar, legend]

    def _evaluation_lines(self, step: int, metrics: Mapping[str, float]) -> list[RenderableType]:
        base = self._first_evaluation or {}
        grid = Table.grid(padding=(0, 2))
        shown = [metric for metric in shown_in("headline") if metric.name in metrics]
        grid.add_row(*(Text(m.short, style="bright_black") for m in shown))
        grid.add_row(*(Text(format_number(metrics[m.name], m.digits), style="bold") for m in shown))
        if any(metrics[m.name] != base.get(m.name, metrics[m.name]) for m in shown):
            grid.add_row(*(change_text(m.name, base.get(m.name), metrics[m.name]) for m in shown))
        return [Text(f"evaluation at step {step}", style="bright_black"), grid]


def change_text(name: str, before: float | None, after: float | None) -> Text:
    """Returns the signed change, green when it is for the better and red when for the worse."""
    line = metric_line(name)
    if before is None or after is None:
        return Text("–", style="bright_black")
    text = format_number(after - before, line.digits, sign=True)
    gain = line.better * (after - before)
    unchanged = not float(text.replace("+", "").replace(",", "") if text != "–" else 0)
    return Text(text, style="bright_black" if unchanged or not line.better else "green" if gain > 0 else "red")
