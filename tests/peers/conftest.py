"""The peers, imported when a test asks for them: the default environment has none and never needs one.

A peer that is not installed is a skip, one that is installed and cannot be imported an error: `make test-peers` shall
not pass for having compared nothing. It ends with the largest difference that was seen of each thing compared.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from tests.peers.agreement import LARGEST


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed; 'make test-peers' puts it into .peers")
    return Path(spec.origin).parent


def _imported(name: str, *attributes: str) -> ModuleType:
    """``attributes``: what lies behind the module's lazy imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL warns of every vLLM that is newer than itself
        module = importlib.import_module(name)
        for attribute in attributes:
            getattr(module, attribute)
    return module


@pytest.fixture(scope="session")
def trl() -> ModuleType:
    _folder("trl")
    return _imported("trl", "GRPOConfig", "GRPOTrainer", "RLOOConfig", "RLOOTrainer")


@pytest.fixture(scope="session")
def verl() -> ModuleType:
    """verl's ``core_algos``."""
    _folder("verl")
    return _imported("verl.trainer.ppo.core_algos")


@pytest.fixture(scope="session")
def openrlhf() -> ModuleType:
    """OpenRLHF's ``models.loss``. Its package ``models`` also imports the actor, and with it flash-attn, which is built
    for CUDA alone; so the package is entered as a bare folder, and the file of the losses is imported as it is."""
    models = types.ModuleType("openrlhf.models")
    models.__path__ = [str(_folder("openrlhf") / "models")]
    sys.modules.setdefault(models.__name__, models)
    return _imported("openrlhf.models.loss")


@pytest.fixture(scope="session")
def netcal() -> ModuleType:
    """netcal's ECE, MCE and ACE."""
    _folder("netcal")
    return _imported("netcal.metrics.confidence")


@pytest.fixture(scope="session")
def torchmetrics() -> ModuleType:
    """torchmetrics' functions of classification."""
    _folder("torchmetrics")
    return _imported("torchmetrics.functional.classification")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LARGEST:
        terminalreporter.section("peers: largest relative difference (at most 1e-5)")
        for what, found in LARGEST.items():
            terminalreporter.write_line(f"{found:9.1e}  {what}")
