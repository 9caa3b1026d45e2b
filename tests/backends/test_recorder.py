"""The recorder of a process: spans, samples, torch's operations. Whole runs: ``e2e/test_profile.py``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from carerl.backends import recorder
from carerl.backends.recording import CALL, PHASE, WAIT


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    recorder.stop()
    sys.setswitchinterval(before)


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(100))


def test_spans_nest_and_know_working_from_waiting() -> None:
    recorder.start()
    with recorder.span("outer", CALL):
        busy(0.05)
        with recorder.span("inner", WAIT):
            time.sleep(0.05)
    found = recorder.stop()
    inner, outer = found.spans
    assert (inner.name, inner.kind, outer.name, outer.kind) == ("inner", WAIT, "outer", CALL)
    assert found.begin <= outer.begin <= inner.begin <= inner.end <= outer.end <= found.end
    assert outer.wall >= inner.wall + 50_000_000 and inner.wall >= 50_000_000
    assert outer.cpu >= 50_000_000 > 10_000_000 > inner.cpu


def test_a_span_that_raises_is_recorded_and_one_outside_is_not() -> None:
    with recorder.span("before"):
        pass
    recorder.start()
    with pytest.raises(ZeroDivisionError), recorder.span("raises"):
        1 / 0  # noqa: B018
    ended = recorder.begin("never ended")
    found = recorder.stop()
    ended()  # after the recording: harmless
    assert [span.name for span in found.spans] == ["raises"]
    assert recorder.stop().spans == []


def test_samples_find_the_function_that_the_time_goes_to() -> None:
    sys.setswitchinterval(0.007)
    recorder.start()
    assert sys.getswitchinterval() < 0.001
    busy(0.1)  # in no span: an idle actor is not sampled
    with recorder.span("work"):
        busy(0.5)
    found = recorder.stop()
    assert sys.getswitchinterval() == pytest.approx(0.007, abs=1e-5)
    work = next(span for span in found.spans if span.name == "work")
    inside = [when for when, _ in found.samples if work.begin <= when <= work.end]
    assert len(inside) > 0.8 * len(found.samples) > 0  # the sampler may be put off between looking and noting the time
    at_work = [stack for _, stack in found.samples if "test_recorder.py:busy" in found.functions[stack[-1]]]
    assert len(at_work) > 0.8 * len(found.samples)
    names = [found.functions[number] for number in at_work[0]]
    assert any(name.endswith("test_samples_find_the_function_that_the_time_goes_to") for name in names[:-1])


def test_only_the_thread_that_began_it_is_recorded() -> None:
    recorder.start()

    def other() -> None:
        with recorder.span("elsewhere"):
            pass

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert recorder.stop().spans == []


def test_torchs_operations_lie_within_their_span() -> None:
    a_NN = torch.randn(64, 64)
    recorder.start(ops=True)
    with recorder.span("work"):
        for _ in range(3):
            a_NN @ a_NN
    found = recorder.stop()
    assert found.samples == []
    product = next(op for op in found.ops if op.name == "aten::mm")
    assert product.calls == 3 and 0 < product.own <= product.total
    work = found.spans[0]
    times = [(begin, end) for name, begin, end in found.op_events if name == "aten::mm"]
    assert len(times) == 3
    assert all(work.begin - 1_000_000 <= begin <= end <= work.end + 1_000_000 for begin, end in times)


def test_timed_keeps_what_a_function_is() -> None:
    def double(value: int) -> int:
        """Doubles."""
        return 2 * value

    call = recorder.timed("double", PHASE, double)
    assert (call(2), call.__name__, call.__doc__) == (4, "double", "Doubles.")
    recorder.start()
    assert call(value=3) == 6
    assert [span.name for span in recorder.stop().spans] == ["double"]
