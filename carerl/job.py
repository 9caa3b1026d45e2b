"""Submit a run or a sweep to a Ray cluster as a job, and follow it to its end.

    carerl job recipe=care_dapo_7b run_dir=/shared/runs/first resume=auto address=http://head:8265
    carerl job sweep=paper_3b seed=100,101 out=/shared/sweeps/paper_3b address=http://head:8265

The first is `ray job submit -- python -m carerl.run …`, the second the same with carerl.sweep, and both do what one has
to remember otherwise: the settings are checked before anything is sent, the cluster's token is sent along, `ray job
stop` leaves the run time to save, and the exit code is the run's own. The words are those of `carerl run` or `carerl
sweep`, and:

address=         the job server; RAY_API_SERVER_ADDRESS or http://127.0.0.1:8265 without it
wait=false       submit, print the job's id, and return
grace=300        seconds between `ray job stop` and the end, to finish a step and save
working_dir=.    a folder to send to a cluster where carerl is not installed; files that may hold secrets (.env, keys,
                 tokens) stay here, and are listed
python=python    the interpreter on the cluster
id=              the job's id
patience=0       seconds to wait for the server to answer

With run_dir=… resume=auto the same command, submitted again, resumes from the newest checkpoint; a sweep with out=…
does so anyway. Ctrl-C ends the following, not the job.

Exit codes: the run's (0 done; 2 the settings are refused; 1 anything else); 143 stopped, and the output says whether it
had the time to save; 0 with wait=false.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from carerl import cli
from carerl.actors.cluster import jobs, uploads
from carerl.config.load import load
from carerl.config.load import parse as parse_settings
from carerl.config.reading.paths import local, refuse_address
from carerl.config.reading.scalars import native, truth
from carerl.config.rehearsal import PREFIX, check_rehearsal
from carerl.config.sweep import asked_for, refuse_own, row_words
from carerl.errors import ConfigError
from carerl.text.printable import printable_log
from carerl.text.terminal import command

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".jar", ".whl")
SWEEPS_OWN = ("sweep", "out", "workers", "rehearse")
SECONDS = cli.whole(0, unit="seconds", example=300)


def _folder_or_archive(name: str, given: str) -> str:
    return given if given.endswith(ARCHIVES) else local(name, given)


@dataclass(frozen=True)
class Options:
    """The job's own options, beside the run's words. ``address``: ``""`` for the default one."""

    address: str = cli.option("")
    wait: bool = cli.option(True, cli.flag)
    grace: int = cli.option(300, SECONDS)
    working_dir: str = cli.option("", _folder_or_archive)
    python: str = cli.option("python")
    id: str = cli.option("")
    patience: int = cli.option(0, SECONDS)


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(words, _job, __doc__ or "", interrupted="\nthe job goes on; see `ray job list`")


def _job(words: list[str]) -> int:
    options, settings = cli.take(words, Options)
    address = options.address or os.environ.get("RAY_API_SERVER_ADDRESS") or jobs.ADDRESS
    swept = any(word.startswith("sweep=") for word in settings)
    facts = _checked_sweep(settings) if swept else _checked(settings)
    kept = uploads.kept_back(options.working_dir) if _is_folder(options.working_dir) else {}
    if kept:
        print(uploads.told(options.working_dir, kept), flush=True)
    client = jobs.client(address, options.patience)
    job = jobs.submit(
        client,
        [options.python, "-m", "carerl.sweep" if swept else "carerl.run", *settings],
        facts,
        grace=options.grace,
        working_dir=options.working_dir,
        excludes=uploads.patterns(kept),
        name=options.id,
        patience=options.patience,
    )
    print(f"job {job} at {address}; stop and save it: ray job stop {job}", flush=True)
    if not options.wait:
        return 0
    ended = jobs.follow(client, job, lambda text: print(printable_log(text), end="", flush=True))
    print(f"job {job}: {ended.status}, exit code {ended.exit_code}", flush=True)
    return ended.exit_code


def _is_folder(working_dir: str) -> bool:
    """Returns True if a folder of this machine is to be sent, and not an archive, which Ray fetches by itself.

    Raises ConfigError."""
    if not working_dir or working_dir.endswith(ARCHIVES):
        return False
    if not Path(working_dir).is_dir():
        remedy = f"give a folder of this machine, or the address of an archive ({', '.join(ARCHIVES)})"
        raise ConfigError("working_dir", working_dir, "there is no such folder", remedy)
    return True


def _checked(words: Sequence[str]) -> dict[str, str]:
    """Checks the run's settings, and returns the labels of the job.

    Settings are checked as those of a plan: paths are the cluster's and need not exist here. Raises ConfigError."""
    asked = dict(word.partition("=")[::2] for word in words)
    for key in ("run_dir", "resume"):  # of the cluster, where they need not be those of this machine
        refuse_address(key, asked.get(key, ""))
    if asked.get("resume") not in (None, "", "auto"):
        return {"resume": asked["resume"]}
    here = [word for word in words if word.partition("=")[0] not in ("resume", "run_dir", "dry_run", "rehearse")]
    config = load([*here, "dry_run=true"])
    if native(parse_settings(words).get("rehearse")) is True:
        check_rehearsal(replace(config, dry_run="dry_run" in asked))
        return {"recipe": PREFIX + config.recipe, "seed": str(config.seed)}
    return {"recipe": config.recipe, "seed": str(config.seed), "run_dir": asked.get("run_dir", "")}


def _checked_sweep(words: Sequence[str]) -> dict[str, str]:
    """Checks the settings of all cells as those of plans, and returns the labels of the job. Raises ConfigError."""
    own = {key: value for key, _, value in (word.partition("=") for word in words) if key in SWEEPS_OWN}
    refuse_address("out", own.get("out", ""))
    spec, grid = asked_for(own["sweep"], [word for word in words if word.partition("=")[0] not in SWEEPS_OWN])
    for row, values in itertools.product(spec.rows, itertools.product(*grid.values())):
        cell = [*row_words(f"{row} {spec.shared}"), *map("=".join, zip(grid, values, strict=True))]
        refuse_own(cell)
        config = load([*cell, "dry_run=true"])
        if truth(own.get("rehearse", "")):
            check_rehearsal(replace(config, dry_run=False))
    return {"sweep": own["sweep"], "out": own.get("out", "")}


if __name__ == "__main__":
    sys.exit(command(main))
