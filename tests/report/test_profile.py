"""A profile's table, trees and trace, from recordings whose every nanosecond is known."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from carerl.backends.recording import CALL, COPY, PHASE, WAIT, Op, Recording, Span
from carerl.report.profile import KINDS, Window, phases, segments, spent, table, text, trace, tree, write_profile

MS = 1_000_000


def span(name: str, kind: str, begin: float, end: float, cpu: float | None = None) -> Span:
    """In milliseconds; on a core throughout unless said."""
    return Span(name, kind, int(begin * MS), int(end * MS), int((end - begin if cpu is None else cpu) * MS))


def two_steps() -> Window:
    """Two steps of 100 ms. The driver asks the learner for 60 ms of each, of which that computes 40, is off the core
    for 10 and takes its arguments for 5; 5 are lost on the way."""
    driver = Recording(1, 0, 250 * MS, process="driver", host="a")
    learner = Recording(2, 0, 250 * MS, process="learner 0", host="a")
    for at in (0, 120):
        driver.spans += [
            span("ray.get: wait", WAIT, at + 30, at + 88, 0),
            span("ray.get: copy", COPY, at + 88, at + 90),
            span("train", PHASE, at + 30, at + 90, 2),
            span("table", PHASE, at + 5, at + 25, 15),
            span("step", PHASE, at, at + 100, 37),
        ]
        learner.spans += [
            span("task:deserialize_arguments", COPY, at + 32, at + 37),
            span("LearnerWorker.update", CALL, at + 37, at + 87, 40),
        ]
    return Window("steps 3 to 4", 2, "step", [driver, learner])


def rows_of(window: Window) -> dict[tuple[str, str], dict[str, float]]:
    return {(row["phase"], row["process"]): row for row in table(window)}


def test_the_table_of_known_steps() -> None:
    rows = rows_of(two_steps())
    assert {phase for phase, _ in rows} == {"train", "table", "between"}
    train, idle = rows["train", "learner 0"], rows["between", "learner 0"]
    assert [train[kind] for kind in KINDS] == pytest.approx([40, 5, 10, 5])
    assert [idle[kind] for kind in KINDS] == pytest.approx([0, 0, 0, 20])
    assert [rows["train", "driver"][kind] for kind in KINDS] == pytest.approx([0, 2, 0, 58])
    assert [rows["table", "driver"][kind] for kind in KINDS] == pytest.approx([15, 0, 5, 0])
    assert rows["between", "driver"]["computing"] == pytest.approx(20)


def test_phases_add_up_to_the_steps_and_kinds_to_the_phases() -> None:
    rows = rows_of(two_steps())
    for process in ("driver", "learner 0"):
        of = [row for (_, name), row in rows.items() if name == process]
        assert sum(row["wall"] for row in of) == pytest.approx(100)
        for row in of:
            assert sum(row[kind] for kind in KINDS) == pytest.approx(row["wall"])


def test_nested_spans_are_told_apart() -> None:
    """A call of 100 ms with a wait of 30 in it, and a copy of 10 in that: 70, 20 and 10. Its 50 ms on a core, of which
    the copy had 10, are spread over the 70."""
    nested = [
        span("copy", COPY, 50, 60),
        span("wait", WAIT, 40, 70, 10),
        span("call", CALL, 0, 100, 50),
    ]
    sums = spent(segments(nested), [(0, 100 * MS)])
    assert {kind: value / MS for kind, value in sums.items()} == pytest.approx(
        {"computing": 40, "copying": 10, "blocked": 30, "waiting": 20}
    )
    half = spent(segments(nested), [(0, 40 * MS)])  # a phase that ends in the middle of a call
    assert half["computing"] / MS == pytest.approx(40 * 40 / 70)


def test_segments_do_not_overlap_even_where_clocks_differ_a_little() -> None:
    crossed = [span("call", CALL, 0, 10), span("store", COPY, 9.9, 12), span("next", CALL, 12, 20)]
    found = segments(crossed)
    assert all(a.end <= b.begin for a, b in pairwise(found))
    assert sum(s.end - s.begin for s in found) == 20 * MS


def test_a_phase_within_a_phase_is_not_counted_twice() -> None:
    driver = Recording(1, 0, 100 * MS, process="driver")
    driver.spans = [span("inner", PHASE, 10, 20), span("outer", PHASE, 0, 50), span("step", PHASE, 0, 60)]
    found = phases(Window("steps", 1, "step", [driver]))
    assert {name: sum(b - a for a, b in times) / MS for name, times in found.items()} == {"outer": 50, "between": 10}


def sampled() -> Recording:
    """main calls work 3 times of 4, that calls matmul through a module; rest 1 time of 4."""
    names = ["default_worker.py:main", "a.py:work", "modules/module.py:Module._call_impl", "b.py:matmul", "a.py:rest"]
    stacks = [(0, 1, 2, 3), (0, 1, 2, 3), (0, 1), (0, 4)]
    times = [5 * MS, 10 * MS, 15 * MS, 60 * MS]
    return Recording(7, 0, 70 * MS, process="rollout 0", functions=names, samples=list(zip(times, stacks, strict=True)))


def test_the_tree_leaves_out_what_only_passes_on() -> None:
    assert tree(sampled()) == [
        (1.0, 0, "default_worker.py:main"),
        (0.75, 1, "a.py:work"),
        (0.5, 2, "b.py:matmul"),
        (0.25, 1, "a.py:rest"),
    ]


def test_the_trace_is_what_chrome_and_perfetto_read(tmp_path: Path) -> None:
    """JSON with a name for every process, and complete events of no negative time which nest in each row."""
    window = two_steps()
    window.recordings.append(sampled())
    window.recordings[1].op_events = [("aten::mm", 40 * MS, 41 * MS)]
    page = write_profile(tmp_path, [window])
    events = json.loads((tmp_path / "profile.json").read_text())["traceEvents"]
    named = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    assert named == {1: "driver (a, pid 1)", 2: "learner 0 (a, pid 2)", 7: "rollout 0 (, pid 7)"}
    whole = [e for e in events if e["ph"] == "X"]
    assert {e["pid"] for e in whole} == set(named) and {e["ph"] for e in events} == {"M", "X"}
    for event in whole:
        assert event["dur"] >= 0 and event["ts"] >= 0 and event["name"] and isinstance(event["tid"], int)
    product = next(e for e in whole if e["name"] == "aten::mm")
    assert (product["ts"], product["dur"]) == (40_000, 1_000)  # microseconds
    for pid in named:
        for row in range(3):
            ends: list[float] = []
            for event in sorted(
                (e for e in whole if (e["pid"], e["tid"]) == (pid, row)), key=lambda e: (e["ts"], -e["dur"])
            ):
                while ends and ends[-1] <= event["ts"]:
                    ends.pop()
                assert not ends or event["ts"] + event["dur"] <= ends[-1]
                ends.append(event["ts"] + event["dur"])
    assert page.read_text() == text([window])


def test_sampled_functions_are_one_time_until_they_are_left() -> None:
    window = Window("w", 1, "step", [sampled()])
    found = [(e["name"], e["ts"], e["dur"]) for e in trace([window])["traceEvents"] if e["ph"] == "X"]
    assert ("b.py:matmul", 5_000, 10_000) in found  # until the sample in which it was gone
    assert ("a.py:work", 5_000, 30_000) in found  # 20 ms after its last sample, as nothing was seen for longer
    assert ("a.py:rest", 60_000, 0) in found


def test_the_text_names_processes_operations_and_what_is_missing() -> None:
    window = two_steps()
    window.notes.append("Ray's timeline could not be read")
    slow = Recording(2, 0, MS, process="learner 0", ops=[Op("aten::mm", 24, 6_800.0, 7_000.0)])
    page = text(
        [window, Window("steps 8 to 9: torch's operations", 2, "step", [Recording(1, 0, 0, process="driver"), slow])]
    )
    assert "note: Ray's timeline could not be read" in page
    assert [line.split() for line in page.splitlines() if "aten::mm" in line] == [["3.4", "3.5", "12", "aten::mm"]]
    on_gpu = Recording(2, 0, MS, process="learner 0", ops=[Op("aten::mm", 1, 100.0, 100.0, 2_500.0)])
    lines = text([Window("step 8", 1, "step", [on_gpu])]).splitlines()
    assert [line.split() for line in lines[-2:]] == [
        ["own", "with", "callees", "on", "the", "GPU", "calls"],
        ["0.1", "0.1", "2.5", "1", "aten::mm"],
    ]
    train = next(line for line in page.splitlines() if line.strip().startswith("train"))
    assert train.split() == ["train", "60.0", "driver", "0.0", "2.0", "0.0", "58.0"]
    assert "all" in page and "100.0" in page
