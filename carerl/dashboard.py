"""The W&B workspace "Regularizers compared" and a report of it, for a project's runs.

    python -m carerl.dashboard project=carerl entity=my-team
    python -m carerl.dashboard project=carerl runs=[runs,sweeps/frontier] dry_run=true

project= and entity= (empty: the key's own) say where the runs are on W&B. Panels are made for the metrics that the runs
below runs= (default: runs) have logged; without any there, for those that every run may log. by= is the setting that
runs are grouped by (default: regularizer.name; recipe tells tuned rows apart). dry_run=true writes the JSON of both to
out= (default: dashboard.json), without network and without login. Called again, it makes a new workspace and report.

Exit codes: 0 done; 2 a setting is refused; 1 W&B cannot be reached or has no key.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from carerl.config.check.places import check_file
from carerl.config.check.wandb_names import entity_errors, project_errors
from carerl.config.load import parse
from carerl.config.reading.paths import local
from carerl.config.reading.typed import fill, plain
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError, raise_all
from carerl.runs.files import write_text
from carerl.runs.find import find_runs
from carerl.runs.redaction import ALLOWED_FIELDS
from carerl.text.printable import printable
from carerl.text.terminal import command
from carerl.tracking.workspace import BY, as_json, declared_names, logged_names, make_report, make_workspace, sections


@dataclass
class DashboardConfig:
    """What the command takes."""

    project: str = ""
    entity: str = ""
    runs: list[str] = field(default_factory=lambda: ["runs"])
    by: str = BY
    out: str = "dashboard.json"
    dry_run: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or {"-h", "--help"} & set(words):
        print(__doc__.strip() if __doc__ else "")
        return 0
    try:
        config = settings(words)
        if config.dry_run:
            check_file("out", config.out)
        names, pictures, source = _names(config)
    except ConfigError as error:
        print(printable(error), file=sys.stderr)
        return 2
    entity = config.entity
    if not config.dry_run:
        try:
            entity = entity or _own_entity()
        except Exception as error:  # of the key, of the network
            print(_not_reached(error), file=sys.stderr)
            return 1
    found = sections(names, pictures)
    workspace = make_workspace(found, config.project, entity, config.by)
    report = make_report(found, config.project, entity, config.by)
    print(f"metrics: {source}; {sum(len(s.panels) for s in found)} panels in {len(found)} sections")
    if config.dry_run:
        write_text(Path(config.out), json.dumps(as_json(workspace, report), indent=2) + "\n")
        print(f"written: {config.out}")
        return 0
    try:
        print(f"workspace: {workspace.save().url}")
        print(f"report: {report.save().url}")
    except Exception as error:
        print(_not_reached(error), file=sys.stderr)
        return 1
    return 0


def settings(words: Sequence[str]) -> DashboardConfig:
    """Raises ConfigError for what makes no sense."""
    tree = parse(words)
    if isinstance(tree.get("runs"), str) and ("," not in tree["runs"] or os.path.exists(tree["runs"])):
        tree["runs"] = [tree["runs"]]
    config: DashboardConfig = fill(
        DashboardConfig, tree, "", "the dashboard", list(DashboardConfig.__dataclass_fields__)
    )
    if not config.project:
        raise ConfigError("project", None, "no project is given", "write project=NAME, as in tracking.wandb_project")
    raise_all([*project_errors("project", config.project), *entity_errors("entity", config.entity)])
    config.runs = [local("runs", place) for place in config.runs]
    config.out = local("out", config.out)
    if not config.out or Path(config.out).is_dir():
        raise ConfigError("out", config.out, "it is no file", "write out=dashboard.json")
    first = config.by.split(".")[0]
    if first not in ALLOWED_FIELDS or first not in plain(RunConfig()):
        raise ConfigError("by", config.by, "runs send no setting of this name", f"write by={BY} or by=recipe")
    return config


def _names(config: DashboardConfig) -> tuple[set[str], set[str], str]:
    """Metrics, pictures, and where they are from. Raises ConfigError where runs are asked for and none are there."""
    try:
        found = find_runs(config.runs)
    except FileNotFoundError as error:
        if config.runs != DashboardConfig().runs:
            raise ConfigError(
                "runs", ", ".join(config.runs), str(error), "name a directory with runs below it"
            ) from None
        found = []
    names, pictures = logged_names(found)
    if names:
        return names, pictures, f"those logged by {len(found)} run{'s' if len(found) > 1 else ''}"
    return declared_names(), set(), "no run here has logged any, so those that every run may log"


def _own_entity() -> str:
    """The key's own user or team. Raises where there is no key, or no server."""
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise RuntimeError("there is no API key")
    return str(wandb.Api(timeout=20).default_entity or "")


def _not_reached(error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return str(
        ConfigError(
            "dashboard",
            None,
            f"W&B cannot be asked: {reason}",
            "set WANDB_API_KEY or run wandb login; dry_run=true writes the JSON without either",
        )
    )


if __name__ == "__main__":
    sys.exit(command(main))
