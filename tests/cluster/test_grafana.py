"""The Grafana dashboard asks for gauges of metrics that are declared, and for nothing else.

That declared metrics are those that runs log is covered by tests/metrics/test_lines.py and tests/e2e; that Ray exports
the gauges by tests/e2e/test_jobs.py.
"""

from __future__ import annotations

import json
import re
from typing import Any

import carerl.config  # noqa: F401 (tasks and the loss add their metrics)
from carerl.metrics import METRICS
from carerl.metrics.table import PARTS
from carerl.tracking.gauges import PREFIX, gauge_name
from tests.cluster.manifests import ROOT

BOARD: dict[str, Any] = json.loads((ROOT / "cluster" / "grafana" / "carerl.json").read_text())


def is_logged(gauge: str) -> bool:
    """Whether a metric's gauge has this name, without the prefix; a part in braces is one word or more."""
    for name in METRICS:
        pieces = re.split(rf"\{{(?:{'|'.join(PARTS)})\}}", name)
        if re.fullmatch(r"\w+".join(gauge_name(piece).removeprefix(PREFIX) for piece in pieces), gauge):
            return True
    return False


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
