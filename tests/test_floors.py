"""The house's one structural rule: a file imports only from lower floors or from its own package.

Read from the syntax tree, so that an import inside a function counts as well. Imports made by name at run
time (plugins) are not seen.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "carerl"
FLOORS: dict[str, int] = {
    room: floor
    for floor, rooms in enumerate(
        (
            ("text", "progress", "seeds", "records"),
            ("types", "errors", "metrics"),
            ("settings", "calibration"),
            ("regularizers", "algorithms", "rewards", "decisions", "anchors", "distillation", "grading"),
            ("loss", "tasks", "preferences", "inference"),
            ("config",),
            ("backends", "runs"),
            ("actors", "tracking", "report"),
            ("controller",),
            ("cli",),
            ("run", "rehearse", "evaluate", "fetch", "grade", "compare", "rollouts", "sweep", "job", "dashboard"),
            ("__main__",),
        )
    )
    for room in rooms
}
LIGHT = FLOORS["config"]  # up to this floor nothing heavy is imported
HEAVY = ("ray", "vllm", "deepspeed", "wandb")
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def room_of(file: str) -> str:
    """``types.py`` -> types; ``tasks/tiny/world.py`` -> tasks; the package's own ``__init__.py`` -> ''."""
    first = file.split("/")[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_modules(source: str, file: str) -> Iterator[str]:
    """Absolute dotted names of all that a file imports, relative imports resolved; ``from a import b`` gives
    a.b, as b may be a module."""
    package = ["carerl", *file.split("/")[:-1]]
    for node in ast.walk(ast.parse(source, file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def violations(source: str, file: str) -> list[str]:
    """What a file imports against the rule, in words."""
    room = room_of(file)
    found = []
    for module in imported_modules(source, file):
        top, *rest = module.split(".")
        if top == "ray" and room != "actors":
            found.append(f"{file} imports ray: only carerl/actors may")
        if top in HEAVY and FLOORS.get(room, 0) <= LIGHT:
            found.append(f"{file} imports {top}: floors 0 to {LIGHT} are light")
        if top != "carerl":
            continue
        target = rest[0] if rest else ""
        if target in ("", "__version__", room):
            continue
        if target not in FLOORS:
            found.append(f"{file} imports carerl.{target}, which has no floor")
        elif room == "" or (FLOORS[target] >= FLOORS[room]):
            found.append(f"{file} (floor {FLOORS.get(room, 0)}) imports carerl.{target} (floor {FLOORS[target]})")
    return found


def test_every_room_has_a_floor() -> None:
    assert {room_of(file) for file in FILES} - {""} <= set(FLOORS)


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_from_lower_floors_or_its_own_package(file: str) -> None:
    assert violations((PACKAGE / file).read_text(encoding="utf-8"), file) == []


@pytest.mark.parametrize(
    ("file", "source", "refused"),
    [
        ("regularizers/rkl.py", "from carerl.types import Group", False),
        ("regularizers/rkl.py", "from .base import gap", False),
        ("regularizers/rkl.py", "from carerl.algorithms import ALGORITHMS", True),
        ("regularizers/rkl.py", "from ..algorithms import ALGORITHMS", True),
        ("loss/objective.py", "from carerl.regularizers import REGULARIZERS", False),
        ("algorithms/grpo.py", "from carerl.regularizers import REGULARIZERS", True),
        ("tasks/tiny/task.py", "from ...config import schema", True),
        ("tasks/tiny/task.py", "from ..base import Task", False),
        ("tasks/tiny/task.py", "def f():\n    import carerl.backends.learners.policy", True),
        ("config/load.py", "def f():\n    import wandb", True),
        ("backends/engines/vllm.py", "def f():\n    import vllm", False),
        ("backends/engines/vllm.py", "import ray", True),
        ("actors/crew.py", "import ray", False),
        ("run.py", "import ray", True),
        ("run.py", "from ray import init", True),
        ("run.py", "from carerl import controller", False),
        ("controller/loops/rl.py", "from carerl.report import write_report", False),
        ("report/run_page.py", "from carerl.controller import rl", True),
        ("types.py", "import carerl.tasks", True),
    ],
)
def test_the_rule_itself_can_fail(file: str, source: str, refused: bool) -> None:
    assert bool(violations(source, file)) is refused


def test_light_floors_load_without_the_heavy_libraries() -> None:
    """In a fresh interpreter, every module of those floors: what they import indirectly counts too."""
    names = [
        "carerl." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for file in FILES
        if FLOORS.get(room_of(file), 9) <= LIGHT
    ]
    assert len(names) > 20
    script = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
