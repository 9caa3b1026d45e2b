"""The process of one section: ``python -m tests.gpu.section NAME MODULE:FUNCTION ROWS``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from tests.gpu.report import Report


def main(name: str, place: str, rows: str) -> None:
    """Calls the section's function with a report that writes to the file ``rows``."""
    module, _, function = place.partition(":")
    getattr(importlib.import_module(module), function)(Report(name, Path(rows)))


if __name__ == "__main__":
    main(*sys.argv[1:])
