"""``python -m carerl.job recipe=NAME key=value … address=URL``: a run as a Ray job, followed to its end.

    python -m carerl.job recipe=care_dapo_7b run_dir=/shared/runs/first resume=auto address=http://head:8265

is ``ray job submit -- python -m carerl.run …`` with what that leaves to be remembered: settings are checked before
anything is sent, the cluster's token is sent along, ``ray job stop`` leaves the run time to save, and the exit code is
the run's own. Its words are those of ``carerl.run``, and:

``address=``      of the job server; RAY_API_SERVER_ADDRESS or http://127.0.0.1:8265 without it
``wait=false``    submit, print the job's id, and return
``grace=300``     seconds between ``ray job stop`` and the end, to finish a step and save
``working_dir=.`` a folder that is sent to the cluster, where carerl is not installed; files that may hold secrets
                  (``.env``, keys, tokens) stay here, and are listed
``python=python`` the interpreter on the cluster
``id=``           the job's id
``patience=0``    seconds to wait for the server to answer

With ``run_dir=… resume=auto`` the same command, submitted again, goes on after the newest checkpoint. Ctrl-C ends the
following, not the job.

Exit codes: the run's (0 done; 2 the settings are refused; 1 anything else); 143 stopped, and the output says whether it
had the time to save; 0 with wait=false.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from carerl.actors.cluster import jobs, uploads
from carerl.config.load import load
from carerl.config.load import parse as parse_settings
from carerl.config.reading.paths import local, refuse_address
from carerl.config.reading.scalars import native, whole_number
from carerl.config.rehearsal import PREFIX, check_rehearsal
from carerl.errors import ConfigError
from carerl.text.printable import printable, printable_log
from carerl.text.terminal import command
from carerl.types import RunError

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".jar", ".whl")


@dataclass
class Options:
    """The words of a command line, told apart."""

    address: str = field(default_factory=lambda: os.environ.get("RAY_API_SERVER_ADDRESS") or jobs.ADDRESS)
    wait: bool = True
    grace: int = 300
    working_dir: str = ""
    python: str = "python"
    id: str = ""
    patience: int = 0
    words: list[str] = field(default_factory=list)  # of the run


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    try:
        options = parse(words)
        facts = _checked(options.words)
        kept = uploads.kept_back(options.working_dir) if _is_folder(options.working_dir) else {}
        if kept:
            print(uploads.told(options.working_dir, kept), flush=True)
        client = jobs.client(options.address, options.patience)
        command = [options.python, "-m", "carerl.run", *options.words]
        job = jobs.submit(
            client,
            command,
            facts,
            grace=options.grace,
            working_dir=options.working_dir,
            excludes=uploads.patterns(kept),
            name=options.id,
            patience=options.patience,
        )
        print(f"job {job} at {options.address}; stop and save it: ray job stop {job}", flush=True)
        if not options.wait:
            return 0
        ended = jobs.follow(client, job, lambda text: print(printable_log(text), end="", flush=True))
    except ConfigError as error:
        print(printable(error), file=sys.stderr)
        return 2
    except RunError as error:
        print(printable(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nthe job goes on; see `ray job list`", file=sys.stderr)
        return 130
    print(f"job {job}: {ended.status}, exit code {ended.exit_code}", flush=True)
    return ended.exit_code


def parse(words: Sequence[str]) -> Options:
    """Raises ConfigError."""
    options = Options()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in Options.__dataclass_fields__ or key == "words":
            options.words.append(word)
        elif key == "wait":
            if value not in ("true", "false"):
                raise ConfigError(key, value, "it is true or false", "write wait=false")
            options.wait = value == "true"
        elif key in ("grace", "patience"):
            if (whole_number(value) or 0) < 0 or whole_number(value) is None:
                raise ConfigError(key, value, "it is a number of seconds", f"write {key}=300")
            setattr(options, key, int(value))
        elif key == "working_dir" and not value.endswith(ARCHIVES):
            options.working_dir = local(key, value)
        else:
            setattr(options, key, value)
    return options


def _is_folder(working_dir: str) -> bool:
    """Whether a folder of this machine is to be sent; an archive that Ray fetches by itself is none. Raises
    ConfigError."""
    if not working_dir or working_dir.endswith(ARCHIVES):
        return False
    if not Path(working_dir).is_dir():
        remedy = f"give a folder of this machine, or the address of an archive ({', '.join(ARCHIVES)})"
        raise ConfigError("working_dir", working_dir, "there is no such folder", remedy)
    return True


def _checked(words: Sequence[str]) -> dict[str, str]:
    """What the job is labelled with. Settings are checked as those of a plan: paths are the cluster's, and need not
    be here. Raises ConfigError."""
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


if __name__ == "__main__":
    sys.exit(command(main))
