"""The wheel, installed into an environment of its own: the command, the recipes, another directory.

The libraries come from this environment by a .pth file, so that nothing is downloaded. Not covered: that an index has
them (cluster/setup.sh installs them from the lock).
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from carerl import __version__

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``carerl`` of an environment that has the wheel, and not this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.startswith(f"carerl-{__version__}-")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--offline",
        "--no-deps",
        "--python",
        str(python),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    (packages,) = (folder / "env").glob("lib/python3*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env" / "bin" / "carerl"


def answer(command: Path, directory: Path, *words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [command, *words], cwd=directory, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_gives_the_command_and_its_recipes(installed: Path, tmp_path: Path) -> None:
    packages = next(installed.parents[1].glob("lib/python3*/site-packages"))
    assert (packages / "carerl" / "recipes" / "care_grpo_tiny.yaml").is_file() and not (packages / "recipes").exists()
    assert answer(installed, tmp_path, "--version") == f"carerl {__version__}\n"
    assert "care_grpo_tiny" in answer(installed, tmp_path, "run", "--help")
    assert "learner" in answer(installed, tmp_path, "run", "recipe=care_grpo_tiny", "dry_run=true")
    where = [installed.parent / "python", "-c", "import carerl; print(carerl.__file__)"]
    assert answer(where[0], tmp_path, *where[1:]).startswith(str(packages)), "the wheel, and not the repository"
    assert not list(tmp_path.iterdir())
