"""Makes the W&B workspace "Regularizers compared" and a report of the same panels: seeds are bands, regularizers lines.

Which metrics a section shows stands in the table of metrics, as ``workspace/SECTION``. Panels are made only for metrics
that runs log. Everything here is plain values until :func:`make_workspace` and :func:`make_report`. Those need no
network; saving what they return does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from carerl.metrics import METRICS, Metric
from carerl.metrics.table import (
    STEP,
    abstention_metric,
    accuracy_metric,
    ece_metric,
    find_metric,
    metric_line,
    names_in,
    shown_in,
    suite_label,
    views_of,
)
from carerl.runs.directory import RunDirectory
from carerl.runs.tables import read_evaluations
from carerl.tasks.decided import BINS
from carerl.tracking.wandb_content import METHOD

TITLE = "Regularizers compared"
BY = "regularizer.name"
SEEDS = "Lines are means over runs, bands reach from the lowest to the highest run."
MOST_REGULARIZERS = 12  # groups of bars that a panel shows


@dataclass(frozen=True)
class Curve:
    """Shows metrics over steps, one line a group of runs and metric."""

    title: str
    metrics: tuple[str, ...]
    unit: str = ""


@dataclass(frozen=True)
class Bars:
    """Shows the runs' last values, one bar a group of runs and metric."""

    title: str
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Scatter:
    """Shows the runs' last values of two metrics, one dot a run."""

    title: str
    x: str
    y: str


@dataclass(frozen=True)
class Pictures:
    title: str
    keys: tuple[str, ...]


Panel = Curve | Bars | Scatter | Pictures


@dataclass(frozen=True)
class Section:
    """Holds panels. ``by``: the setting that groups their runs if nobody chose another than :data:`BY`."""

    title: str
    text: str
    panels: tuple[Panel, ...]
    by: str = BY


def logged_names(runs: Iterable[Path]) -> tuple[set[str], set[str]]:
    """Returns the metrics that runs on disk have logged, and the pictures that a W&B log of them has."""
    metrics: set[str] = set()
    pictures: set[str] = set()
    for path in runs:
        run = RunDirectory(path)
        try:
            lines = run.metrics.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                metrics.update(json.loads(line))
            except ValueError:  # cut off by a crash
                continue
        for record in read_evaluations(run.evaluations):
            pictures.update(f"calibration/reliability/{suite}" for suite in record.get("reliability") or {})
    return {name for name in metrics if name != STEP and find_metric(name)}, pictures


def declared_names() -> set[str]:
    """Returns the metrics that every run may log: for a project without a run on this machine."""
    return {name for name, metric in METRICS.items() if not metric.template}


def sections(names: Collection[str], pictures: Collection[str] = ()) -> list[Section]:
    """Returns the workspace's sections, with the panels for ``names`` and ``pictures``."""
    accuracy, ece, f1 = accuracy_metric(sorted(names)), ece_metric(sorted(names)), abstention_metric(sorted(names))
    suites = sorted({name.split("/")[1] for name in names if name.startswith("eval/") and name.count("/") == 2})
    pairs = [("", accuracy, ece)] if not suites else []
    pairs += [(f"{suite_label(s)}: ", f"eval/{s}/accuracy", f"calibration/{s}/ece") for s in suites]

    used: list[str] = []

    def curves(section: str) -> list[Panel]:
        used.append(section)
        view = f"workspace/{section}"
        lines = [metric.name for metric in shown_in(view) if "{suite}" in metric.name]
        of_suites = [line.replace("{suite}", suite) for suite in suites for line in lines]
        plain = names_in(view, [name for name in names if name.count("/") == 1])
        return [_curve(name) for name in (*plain, *of_suites)]

    bins = tuple(names_in("parts/coefficient_bins"))
    middle = len(bins) // 2  # most tokens lie there, and on a linear axis nothing else shows
    wanted = [
        Section(
            "Accuracy against calibration",
            "One dot a run: high and left is better. Bars are the runs' last values.",
            (
                *(Scatter(f"{suite}accuracy against ECE", x=e, y=a) for suite, a, e in pairs),
                *(Bars(metric_line(name).label, (name,)) for name in dict.fromkeys((accuracy, ece, f1))),
            ),
        ),
        Section("Evaluations", SEEDS, tuple(curves("evaluations"))),
        Section(
            "Calibration",
            "A perfect model's ECE is above 0 too: it has few votes. Evaluations between start and end may ask fewer "
            "questions, which raises it further.",
            (*curves("calibration"), Pictures("Reliability diagrams", tuple(sorted(pictures)))),
        ),
        Section(
            "Entropy",
            "Nats a token; an entropy that collapses makes every answer look certain.",
            (
                *curves("entropy"),
                _split("Entropy, right against wrong", "parts/entropy_outcome"),
                _split("Entropy by confidence", "parts/entropy_confidence"),
            ),
        ),
        Section(
            "Divergence to the reference",
            "Reverse KL is reported whatever the penalty is, so that penalties can be compared by it.",
            (
                *curves("divergence"),
                _split("Reverse KL, right against wrong", "parts/reverse_kl_outcome"),
                _split("Reverse KL by confidence", "parts/reverse_kl_confidence"),
            ),
        ),
        Section(
            "Coefficient",
            "What the penalty asks of a sampled token: above 0 its probability is lowered, below 0 raised. The "
            "histogram is of the last step's tokens, by regularizer (m is a minus sign). Then its mean size, by how "
            "sure the policy was of its answer: the share of its group with the same one, from so many percent.",
            (
                Bars("Histogram of the coefficient", bins),
                Bars("Histogram of the coefficient beyond ±.01", (*bins[:middle], *bins[middle + 1 :])),
                Bars("Coefficient by confidence", tuple(names_in("parts/coefficient_confidence"))),
                Bars("Coefficient, right against wrong", tuple(names_in("parts/coefficient_outcome"))),
                *curves("coefficient"),
                _split("Coefficient by confidence", "parts/coefficient_confidence"),
                *curves("strengths"),
            ),
        ),
        Section(
            "Decisions",
            "Of the option that a response names: its probability, in training among all tokens and in evaluations "
            "among the options. Runs are grouped by method, which is the recipe with the settings that depart from it.",
            (*curves("decisions"), *map(_decision_bars, suites)),
            METHOD,
        ),
        Section("Training", SEEDS, tuple(curves("training"))),
    ]
    others = [name for name in views_of("workspace") if name not in used]
    wanted += [Section(name.capitalize(), SEEDS, tuple(curves(name))) for name in others]
    return _only(wanted, {*names, *pictures})


def _curve(name: str) -> Curve:
    metric = find_metric(name)
    label = metric_line(name).label
    return Curve(metric.meaning if metric is not None and label == name else label, (name,), _unit(metric))


def _decision_bars(suite: str) -> Bars:
    (line,) = shown_in("parts/decision_bins")
    bins = tuple(line.name.format(suite=suite, n=n) for n in range(BINS))
    return Bars(f"{suite_label(suite)}: histogram of p(decision)", bins)


def _unit(metric: Metric | None) -> str:
    return "" if metric is None or metric.unit == "1" else metric.unit.replace("/", " per ")


def _split(title: str, view: str) -> Curve:
    metrics = shown_in(view)
    return Curve(title, tuple(metric.name for metric in metrics), _unit(metrics[0]))


def references(panel: Panel) -> tuple[str, ...]:
    """Returns the metrics or media keys that a panel shows."""
    match panel:
        case Scatter():
            return (panel.x, panel.y)
        case Pictures():
            return panel.keys
        case _:
            return panel.metrics


def _only(wanted: Sequence[Section], there: Collection[str]) -> list[Section]:
    """Keeps what can be shown: a scatter if both its metrics are there, and of any other panel the metrics that are."""
    found = []
    for section in wanted:
        panels: list[Panel] = []
        for panel in section.panels:
            names = tuple(name for name in references(panel) if name in there)
            match panel:
                case Scatter() if len(names) == 2:
                    panels.append(panel)
                case Curve() if names:
                    panels.append(Curve(panel.title, names, panel.unit))
                case Bars() if names:
                    panels.append(Bars(panel.title, names))
                case Pictures() if names:
                    panels.append(Pictures(panel.title, names))
        if panels:
            found.append(replace(section, panels=tuple(panels)))
    return found


def _drawn(panel: Panel, by: str) -> Any:
    """Returns a panel of wandb-workspaces. ``by``: the setting that groups runs."""
    import wandb_workspaces.reports.v2 as wr

    grouped: dict[str, Any] = {
        "groupby": wr.Config(by),
        "groupby_aggfunc": "mean",
        "groupby_rangefunc": "minmax",
        "max_runs_to_show": 100,
    }
    match panel:
        case Scatter():
            return wr.ScatterPlot(
                title=panel.title,
                x=wr.SummaryMetric(panel.x),
                y=wr.SummaryMetric(panel.y),
                legend_template=f"${{config:{_path(by)}}} ${{run:displayName}}",
            )
        case Bars():
            bars = MOST_REGULARIZERS * len(panel.metrics)
            return wr.BarPlot(
                title=panel.title, metrics=list(panel.metrics), orientation="v", max_bars_to_show=bars, **grouped
            )
        case Pictures():
            return wr.MediaBrowser(title=panel.title, media_keys=list(panel.keys), num_columns=3)
        case Curve():
            return wr.LinePlot(
                title=panel.title,
                x="Step",
                y=list(panel.metrics),
                title_x="step",
                title_y=panel.unit or None,
                **grouped,
            )


def _path(setting: str) -> str:
    """Returns ``regularizer.name`` as W&B stores it: regularizer.value.name."""
    first, _, rest = setting.partition(".")
    return f"{first}.value.{rest}" if rest else f"{first}.value"


def _grouping(section: Section, by: str) -> str:
    return section.by if by == BY else by


def make_workspace(found: Sequence[Section], project: str, entity: str = "", by: str = BY) -> Any:
    """Returns the workspace, unsaved. Its list of runs is grouped by ``by`` as well, and shows accuracy and ECE."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    scatters = [panel for section in found for panel in section.panels if isinstance(panel, Scatter)]
    columns = [f"summary:{name}" for panel in scatters for name in (panel.y, panel.x)]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=TITLE,
        sections=[
            ws.Section(
                name=section.title,
                panels=[_drawn(panel, _grouping(section, by)) for panel in section.panels],
                is_open=number < 3,
                pinned=number == 0,
            )
            for number, section in enumerate(found)
        ],
        settings=ws.WorkspaceSettings(x_axis="Step", max_runs=100),
        runset_settings=ws.RunsetSettings(
            groupby=[expr.Config(by)], pinned_columns=[f"config:{_path(by)}", *dict.fromkeys(columns)]
        ),
    )


def make_report(found: Sequence[Section], project: str, entity: str = "", by: str = BY) -> Any:
    """Returns the report, unsaved: each section's panels under its heading, with what they show."""
    import wandb_workspaces.reports.v2 as wr

    blocks: list[Any] = [
        wr.P(f"Runs are grouped by {by}, unless a section says otherwise. Compare runs of one group (a recipe family) "
             "with everything else held equal; a comparison with intervals over seeds is made by python -m "
             "carerl.compare."),
        wr.TableOfContents(),
    ]  # fmt: skip
    for section in found:
        grouping = _grouping(section, by)
        panels = [_drawn(panel, grouping) for panel in section.panels]
        for number, panel in enumerate(panels):
            panel.layout = wr.Layout(x=8 * (number % 3), y=6 * (number // 3), w=8, h=6)
        runs = wr.Runset(
            name="runs", groupby=[f"config.{grouping}"]
        )  # of the report's own project: naming it asks a server
        blocks += [wr.H2(section.title), wr.P(section.text), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(project=project, entity=entity, title=TITLE, description="carerl", blocks=blocks, width="fluid")


def as_json(workspace: Any, report: Any) -> dict[str, Any]:
    """Returns both as what the server would receive."""
    return {
        name: json.loads(thing._to_model().model_dump_json(by_alias=True, exclude_none=True))
        for name, thing in (("workspace", workspace), ("report", report))
    }
