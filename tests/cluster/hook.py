"""The preStop hook as a module, and a /proc of a test's own making."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from tests.cluster.manifests import ROOT


def load_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("before_stop", ROOT / "cluster" / "docker" / "before_stop.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def proc_of(folder: Path, processes: Mapping[int, Sequence[str]]) -> Path:
    """A /proc that shows these processes only; those that exist have their real state."""
    for number, words in processes.items():
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "cmdline").write_bytes(b"".join(f"{w}\0".encode() for w in words))
        real = Path("/proc") / str(number) / "stat"
        if real.exists():
            (folder / str(number) / "stat").symlink_to(real)
    return folder
