"""``python -m carerl.run recipe=NAME key=value …``: train, evaluate, report. ``--help`` lists the recipes,
``--help SECTION`` all settings of a section.

Exit codes: 0 done; 2 the settings are refused (nothing was started), or a dry run's actors do not fit their GPUs;
128 + signal when stopped (``summary.json`` says at which step); 1 anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from carerl.config.help import help_text, wants_help
from carerl.config.load import load
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError
from carerl.text.printable import printable
from carerl.text.terminal import command


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if wants_help(words):
            print(help_text(words))
            return 0
        config = load(words)
        if config.dry_run:
            from carerl.config.plan.plan import plan
            from carerl.config.plan.render import render

            planned = plan(config)
            print(render(planned))
            return 0 if planned.fits else 2
        return _run(config)
    except ConfigError as error:
        print(printable(error), file=sys.stderr)
        return 2


def _run(config: RunConfig) -> int:
    from carerl.controller.launch import launch
    from carerl.runs.directory import RunDirectoryError
    from carerl.types import RunError

    try:
        if config.rehearse:
            from carerl.controller.rehearsal.rehearsal import rehearse

            return rehearse(config).exit_code
        return launch(config).exit_code
    except (RunError, RunDirectoryError) as error:
        print(printable(error), *map(printable, getattr(error, "__notes__", [])), sep="\n", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("ended at once", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(command(main))
