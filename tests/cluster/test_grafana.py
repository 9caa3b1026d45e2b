"""The Grafana dashboard asks for gauges of metrics that the code logs, and for nothing else.

What is logged is read from the source: string literals of the form group/name, f-strings with their holes, and the
phases that are timed. That Ray exports them is covered by tests/e2e/test_jobs.py.
"""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from typing import Any

from tests.cluster.manifests import ROOT

BOARD: dict[str, Any] = json.loads((ROOT / "cluster" / "grafana" / "carerl.json").read_text())
GROUPS = "train|rollout|regularizer|sync|eval|calibration|system|time"
LOGS = (
    "algorithms",
    "regularizers",
    "calibration",
    "tasks",
    "backends",
    "actors",
    "controller",
)  # not report, which reads


@cache
def logged() -> list[re.Pattern[str]]:
    """Patterns of the metrics' names as gauges have them: `/` is `_`, a hole of an f-string one word or more."""
    texts, phases = set(), set()
    for room in LOGS:
        for path in (ROOT / "carerl" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.add(re.escape(node.value))
                elif isinstance(node, ast.JoinedStr):
                    parts = [re.escape(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values]
                    texts.add("".join(map(str, parts)))
                elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "phase":
                    phases |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    names = {text for text in texts if re.match(rf"({GROUPS})/", text)}
    names = {name.replace("time/{}", f"time/({'|'.join(sorted(phases))})") for name in names}
    return [re.compile(name.replace("/", "_").replace("{}", "[a-z0-9_]+")) for name in sorted(names)]


def is_logged(gauge: str) -> bool:
    return any(pattern.fullmatch(gauge) for pattern in logged())


def expressions() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", [])]


def gauges_asked_for() -> set[str]:
    """By name, not by pattern, and without the prefix."""
    return {gauge for expression in expressions() for gauge in re.findall(r"^ray_carerl_(\w+)\{", expression)}


def test_every_gauge_by_name_is_of_a_metric_that_is_logged() -> None:
    gauges = gauges_asked_for()
    assert len(gauges) > 20
    assert [gauge for gauge in sorted(gauges) if not is_logged(gauge)] == []
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "query":
            (gauge,) = re.findall(r"label_values\(ray_carerl_(\w+), \w+\)", variable["query"]["query"])
            assert is_logged(gauge)


def test_every_gauge_by_pattern_finds_those_it_is_for_and_no_other() -> None:
    patterns = {p for e in expressions() for p in re.findall(r'__name__=~"ray_carerl_([^"]+)"', e)}
    wanted = {"eval_accuracy", "eval_math500_accuracy", "calibration_ece", "calibration_facts_ece"}
    found = {
        gauge
        for gauge in wanted | {"rollout_accuracy", "calibration_facts_ece_floor"}
        for p in patterns
        if re.fullmatch(p, gauge)
    }
    assert found == wanted
    assert all(is_logged(gauge) for gauge in wanted - {"calibration_ece"})


def test_the_check_can_fail() -> None:
    assert is_logged("rollout_accuracy") and is_logged("time_generate")
    assert not is_logged("rollout_acuracy") and not is_logged("time_generation") and not is_logged("accuracy")


def test_every_query_is_narrowed_by_the_variables_and_labelled_by_the_gauges_own_labels() -> None:
    names = {variable["name"] for variable in BOARD["templating"]["list"]}
    assert names == {"datasource", "recipe", "seed", "run"}
    for expression in expressions():
        assert {f'{label}=~"${label}"' for label in ("recipe", "seed", "run")} <= set(
            re.findall(r'\w+=~"\$\w+"', expression)
        )
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= {"recipe", "seed", "run", "__name__"}


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
