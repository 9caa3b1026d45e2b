"""The house's rules beside the floors: no circles, nothing too long, docstrings that say what a function does.

Read from the syntax tree of every file. What is allowed to break a rule stands in a table here, with its reason.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_floors import FILES, PACKAGE, imported_modules

FILES_PER_FOLDER = 20
LINES_PER_FILE = 400
LINES_PER_FUNCTION = 80
PARAMETERS = 8
LONG_LISTS_OF_PARAMETERS: dict[str, str] = {}  # file::function -> why
# A docstring that begins with one of these names a thing, or a condition, and no deed.
WORDS = """
    what whether of how by with where why as that those the a an from in to every each one all same its it this these
    which who when if for on at no nothing none not two three both either neither some any more most less only also so
    such there their while since after before during without within into under between beside
"""
NO_VERB = frozenset(WORDS.split())
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    """Every function and method of a file."""
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def too_long(source: str, file: str) -> list[str]:
    """Functions with too many lines or parameters, in words."""
    found = []
    for node in functions(source):
        lines = (node.end_lineno or 0) - node.lineno + 1
        if lines > LINES_PER_FUNCTION:
            found.append(f"{file}::{node.name} has {lines} lines")
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > PARAMETERS and f"{file}::{node.name}" not in LONG_LISTS_OF_PARAMETERS:
            found.append(f"{file}::{node.name} has {count} parameters")
    return found


def without_a_verb(source: str, file: str) -> list[str]:
    """Functions whose docstring does not begin with what they do, and classes and modules whose docstring begins with a
    question word. A property is a thing, and is exempt."""
    found = []
    for node in functions(source):
        text = ast.get_docstring(node) or "Does"
        word = text.split()[0].strip(".,:;")
        thing = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
        if not thing and (not word.isascii() or not word[0].isupper() or word.lower() in NO_VERB or "`" in word):
            found.append(f"{file}::{node.name}: {text.splitlines()[0]}")
    tree = ast.parse(source)
    for node in (tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))):
        word = (ast.get_docstring(node) or "Does").split()[0].strip(".,:;").lower()
        if word in ("what", "whether", "of", "how", "by", "which", "who", "where", "why", "when"):
            found.append(f"{file}::{getattr(node, 'name', '')}: {word}")
    return found


def circles(imports: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, or none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def module_of(file: str) -> str:
    """``loss/__init__.py`` -> carerl.loss, ``loss/head.py`` -> carerl.loss.head."""
    return "carerl." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {module_of(file) for file in FILES}
    found: dict[str, set[str]] = {}
    for file in FILES:
        named = set(imported_modules((PACKAGE / file).read_text(encoding="utf-8"), file))
        targets = {name if name in modules else name.rpartition(".")[0] for name in named}
        found[module_of(file)] = (targets & modules) - {module_of(file)}
    assert circles(found) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != [], "the rule itself can fail"


def test_folders_and_files_stay_small() -> None:
    folders: dict[Path, int] = {}
    for file in PACKAGE.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            folders[file.parent] = folders.get(file.parent, 0) + 1
    assert {str(folder): n for folder, n in folders.items() if n > FILES_PER_FOLDER} == {}
    lines = {file: (PACKAGE / file).read_text(encoding="utf-8").count("\n") for file in FILES}
    assert {file: n for file, n in lines.items() if n > LINES_PER_FILE} == {}


@pytest.mark.parametrize("rule", [too_long, without_a_verb])
def test_functions_are_short_and_say_what_they_do(rule) -> None:
    assert [one for file in FILES for one in rule((PACKAGE / file).read_text(encoding="utf-8"), file)] == []


def test_the_rules_for_functions_can_fail() -> None:
    assert too_long("def f(" + ", ".join(f"a{k}" for k in range(9)) + "): ...", "x.py") == ["x.py::f has 9 parameters"]
    assert too_long("def f():\n" + "    pass\n" * 80, "x.py") == ["x.py::f has 81 lines"]
    assert without_a_verb('def f():\n    """Whether it is so."""', "x.py") and not without_a_verb(
        'def f():\n    """Returns True where it is so."""', "x.py"
    )
