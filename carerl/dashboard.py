"""Make the W&B workspace "Regularizers compared", and a report of it, for a project's runs.

    carerl dashboard project=carerl entity=my-team
    carerl dashboard project=carerl runs=[runs,sweeps/frontier] dry_run=true

project=, entity=       where the runs are on W&B; without entity= the key's own user or team
runs=runs               places with runs: panels are made for the metrics that these runs have logged, or for those that
                        every run may log if there is none
by=regularizer.name     the setting that runs are grouped by; method, the recipe with the settings that depart from it,
                        tells all arms of a sweep apart; decisions are grouped by it anyway
dry_run=true            write the JSON of workspace and report to out=, without network and login
out=dashboard.json

Each call makes a new workspace and a new report.

Exit codes: 0 done; 2 an option is refused; 1 W&B cannot be reached or has no key.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carerl import cli
from carerl.config.check.places import check_file
from carerl.config.check.wandb_names import entity_errors, project_errors
from carerl.config.load import parse
from carerl.config.reading.paths import local
from carerl.config.reading.typed import convert, plain
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError, raise_all
from carerl.runs.files import write_text
from carerl.runs.find import find_runs
from carerl.runs.redaction import ALLOWED_FIELDS
from carerl.text.terminal import command
from carerl.tracking.wandb_content import METHOD
from carerl.tracking.workspace import BY, as_json, declared_names, logged_names, make_report, make_workspace, sections


def _places(name: str, given: str) -> tuple[str, ...]:
    """Returns the places of a list in brackets, or the one place that is given. Raises ConfigError."""
    value: Any = parse([f"{name}={given}"])[name]
    if isinstance(value, str) and ("," not in value or os.path.exists(value)):
        value = [value]
    return tuple(local(name, place) for place in convert(list[str], name, value))


@dataclass(frozen=True)
class Options:
    """The options of ``carerl dashboard``."""

    project: str = cli.option("")
    entity: str = cli.option("")
    runs: tuple[str, ...] = cli.option(("runs",), _places)
    by: str = cli.option(BY)
    out: str = cli.option("dashboard.json", local)
    dry_run: bool = cli.option(False, cli.flag)


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(words, _dashboard, __doc__ or "")


def _dashboard(words: list[str]) -> int:
    options, _ = cli.read(words, Options, "dashboard")
    _check(options)
    names, pictures, source = _names(options)
    entity = options.entity
    if not options.dry_run:
        try:
            entity = entity or _own_entity()
        except Exception as error:  # of the key, of the network
            print(_not_reached(error), file=sys.stderr)
            return 1
    found = sections(names, pictures)
    workspace = make_workspace(found, options.project, entity, options.by)
    report = make_report(found, options.project, entity, options.by)
    print(f"metrics: {source}; {sum(len(s.panels) for s in found)} panels in {len(found)} sections")
    if options.dry_run:
        write_text(Path(options.out), json.dumps(as_json(workspace, report), indent=2) + "\n")
        print(f"written: {options.out}")
        return 0
    try:
        print(f"workspace: {workspace.save().url}")
        print(f"report: {report.save().url}")
    except Exception as error:
        print(_not_reached(error), file=sys.stderr)
        return 1
    return 0


def _check(options: Options) -> None:
    """Raises ConfigError for options that make no sense."""
    if not options.project:
        raise ConfigError("project", None, "no project is given", "write project=NAME, as in tracking.wandb_project")
    raise_all([*project_errors("project", options.project), *entity_errors("entity", options.entity)])
    if not options.out or Path(options.out).is_dir():
        raise ConfigError("out", options.out, "it is no file", "write out=dashboard.json")
    first = options.by.split(".")[0]
    if options.by != METHOD and (first not in ALLOWED_FIELDS or first not in plain(RunConfig())):
        raise ConfigError("by", options.by, "runs send no setting of this name", f"write by={BY} or by={METHOD}")
    if options.dry_run:
        check_file("out", options.out)


def _names(options: Options) -> tuple[set[str], set[str], str]:
    """Returns the metrics, the pictures, and where they are from. Raises ConfigError if runs are asked for and there
    are none."""
    try:
        found = find_runs(options.runs)
    except FileNotFoundError as error:
        if options.runs != Options.runs:
            raise ConfigError(
                "runs", ", ".join(options.runs), str(error), "name a directory with runs below it"
            ) from None
        found = []
    names, pictures = logged_names(found)
    if names:
        return names, pictures, f"those logged by {len(found)} run{'s' if len(found) > 1 else ''}"
    return declared_names(), set(), "no run here has logged any, so those that every run may log"


def _own_entity() -> str:
    """Returns the key's own user or team. Raises an error if there is no key, or no server."""
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
