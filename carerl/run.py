"""Train, evaluate and report: ``carerl run recipe=NAME key=value …``.

``carerl run --help`` lists the recipes, ``carerl run --help SECTION`` all settings of a section.

Exit codes: 0 done; 2 the settings are refused (nothing was started), or a dry run's actors do not fit their GPUs;
128 + signal when stopped (``summary.json`` says at which step); 1 anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from carerl import cli
from carerl.config.help import help_text, wants_help
from carerl.config.load import load
from carerl.text.terminal import command


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(words, _run)


def _run(words: list[str]) -> int:
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
    if config.rehearse:
        from carerl.controller.rehearsal.rehearsal import rehearse

        return rehearse(config).exit_code
    from carerl.controller.launch import launch

    return launch(config).exit_code


if __name__ == "__main__":
    sys.exit(command(main))
