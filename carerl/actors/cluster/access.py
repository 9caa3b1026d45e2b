"""Sends and makes the token that a Ray cluster asks for.

A cluster that was started with Ray's defaults asks for a token, and clients of Ray 2.60 send it only if
``RAY_AUTH_MODE=token`` is set: it is set here if there is a token to send.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from carerl.actors.cluster.addresses import is_here
from carerl.errors import ConfigError

WHERE_THE_TOKEN_IS = (
    "a cluster started with Ray's defaults asks for the token that it wrote to ~/.ray/auth_token: copy it to "
    "the same place here (or set RAY_AUTH_TOKEN_PATH), and set RAY_AUTH_MODE=token"
)


def token_file() -> Path:
    """Returns where Ray looks for the token."""
    at = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(at).expanduser() if at else Path.home() / ".ray" / "auth_token"


def enable_token() -> None:
    """Has this process send its token, unless RAY_AUTH_MODE says otherwise. Ray reads the mode once, when it is
    imported. Changes nothing after that: a Ray started here would ask for a token that is not sent."""
    if "ray" in sys.modules:
        return
    if "RAY_AUTH_MODE" not in os.environ and (os.environ.get("RAY_AUTH_TOKEN") or token_file().is_file()):
        os.environ["RAY_AUTH_MODE"] = "token"


def make_token() -> Path | None:
    """Makes the token of the clusters that are started here, readable by its owner alone, and returns its file; None if
    there is one already. Ray would make one that all users of the machine may read, or, for `ray start`, none. Raises
    OSError."""
    place = token_file()
    if os.environ.get("RAY_AUTH_TOKEN") or place.is_file():
        return None
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = place.with_name(f".{place.name}.{os.getpid()}")
    with open(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    try:
        os.link(own, place)  # unlike a rename it does not replace another process's file
    except FileExistsError:
        return None
    finally:
        own.unlink()
    return place


def sends_token() -> bool:
    """Returns True if this process sends a token."""
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def check_open(field: str, address: str, host: str) -> None:
    """Refuses to send anything over a network without a token, unless RAY_AUTH_MODE asks for it. Raises ConfigError."""
    if sends_token() or "RAY_AUTH_MODE" in os.environ or is_here(host):
        return
    raise ConfigError(
        field,
        address,
        "it is another machine, and there is no token to send: whoever reaches it could run commands there",
        f"{WHERE_THE_TOKEN_IS}; RAY_AUTH_MODE=disabled goes without one",
    )


def main() -> int:
    """Makes the token if there is none, and says so. A script calls it before `ray start`. Returns the exit code."""
    try:
        made = make_token()
    except OSError as error:
        print(f"no token for Ray could be written ({error}): set RAY_AUTH_TOKEN_PATH to a file", file=sys.stderr)
        return 2
    if made is not None:
        print(f"a token for Ray's clusters was made: {made}", file=sys.stderr)
    return 0
