"""Pitfall 19: a documented option that nothing reads.

A field counts as read if its name stands somewhere in the package as an attribute (``config.rollout.threads``) or as a
key in quotes. Names shared by several settings are counted once: this cannot see that one of two is forgotten.
"""

from __future__ import annotations

import ast
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import carerl
from carerl.config import schema
from carerl.config.tables import CHOICES

PACKAGE = Path(carerl.__file__).parent
# the schema and the settings' own checks look at fields by their nature; what counts is who acts on them
LOOKS_AT_ALL = "config/schema/"
CHECKS = {"check"}


def names_read(folder: Path, leave_out: str) -> set[str]:
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        if path.relative_to(folder).as_posix().startswith(leave_out):
            continue
        nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
        for node in nodes:  # grows
            nodes += [
                n for n in ast.iter_child_nodes(node) if not (isinstance(n, ast.FunctionDef) and n.name in CHECKS)
            ]
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


SETTINGS = sorted(
    {
        (owner.__name__, field.name)
        for owner in (
            *(value for value in vars(schema).values() if isinstance(value, type) and is_dataclass(value)),
            *(entry.config for table in CHOICES.values() for entry in table.values()),
        )
        for field in fields(owner)
    }
)


@pytest.fixture(scope="module")
def read() -> set[str]:
    return names_read(PACKAGE, LOOKS_AT_ALL)


@pytest.mark.parametrize(("owner", "name"), SETTINGS)
def test_pitfall_19_every_setting_is_read(owner: str, name: str, read: set[str]) -> None:
    assert name in read


def test_an_unread_setting_would_be_noticed(read: set[str]) -> None:
    assert "a_setting_that_nobody_reads" not in read
    assert len(SETTINGS) > 80
