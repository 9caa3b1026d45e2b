"""The token that a Ray cluster asks for.

A cluster that was started with Ray's defaults asks for one, and clients of Ray 2.60 send it only where
``RAY_AUTH_MODE=token`` is set: it is set here where there is a token to send.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from carerl.actors.addresses import is_here
from carerl.config.errors import ConfigError

WHERE_THE_TOKEN_IS = (
    "a cluster started with Ray's defaults asks for the token that it wrote to ~/.ray/auth_token: copy it to "
    "the same place here (or set RAY_AUTH_TOKEN_PATH), and set RAY_AUTH_MODE=token"
)


def enable_token() -> None:
    """Has this process send the token that it has, unless RAY_AUTH_MODE says otherwise. Ray reads the mode once, when
    it is imported: after that nothing is changed, as a Ray started here would then ask for what is not sent."""
    if "ray" in sys.modules:
        return
    at = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(at).expanduser() if at else Path.home() / ".ray" / "auth_token"
    if "RAY_AUTH_MODE" not in os.environ and (os.environ.get("RAY_AUTH_TOKEN") or path.is_file()):
        os.environ["RAY_AUTH_MODE"] = "token"


def sends_token() -> bool:
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def check_open(field: str, address: str, host: str) -> None:
    """Refuses to send anything over a network without a token, unless that is asked for. Raises ConfigError."""
    if sends_token() or "RAY_AUTH_MODE" in os.environ or is_here(host):
        return
    raise ConfigError(
        field,
        address,
        "it is another machine, and there is no token to send: whoever reaches it could run commands there",
        f"{WHERE_THE_TOKEN_IS}; RAY_AUTH_MODE=disabled goes without one",
    )
