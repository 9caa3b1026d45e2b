"""Records what one thread of a process does during a profile: named spans, sampled stacks, torch's operations.

Every process has one recorder. While it is off, a span costs one look at a variable. Times are nanoseconds since the
epoch. Processes of one machine share that clock; between machines it is as good as their time service.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from carerl.backends.recording import PHASE, Op, Recording, Span

SAMPLE_SECONDS = 0.005  # between two samples of the stack
SWITCH_SECONDS = 0.0005  # how long Python code may keep the sampler waiting; Python's own 5 ms would hide most of it
OP_EVENTS = 20_000  # operations of torch that a trace holds; the sums include all


class _Recorder:
    """Records the thread that created it."""

    def __init__(self, ops: bool) -> None:
        self.spans: list[Span] = []
        self.open = 0
        self._thread, self._begin = threading.get_ident(), time.time_ns()
        self._samples: list[tuple[int, tuple[Any, ...]]] = []
        self._ended = threading.Event()
        self._switch = sys.getswitchinterval()
        self._torch = _torch_profiler() if ops else None
        self._sampler = threading.Thread(target=self._sample, name="stack sampler", daemon=True)
        if self._torch is None:
            sys.setswitchinterval(SWITCH_SECONDS)
            self._sampler.start()

    def begin(self, name: str, kind: str) -> Callable[[], None]:
        if threading.get_ident() != self._thread:
            return _nothing
        begin, cpu = time.time_ns(), time.thread_time_ns()
        self.open += 1

        def end() -> None:
            self.open -= 1
            self.spans.append(Span(name, kind, begin, time.time_ns(), time.thread_time_ns() - cpu))

        return end

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            frame = sys._current_frames().get(self._thread) if self.open else None
            codes = []
            while frame is not None:
                codes.append(frame.f_code)
                frame = frame.f_back
            if codes:
                self._samples.append((time.time_ns(), tuple(reversed(codes))))

    def stop(self) -> Recording:
        self._ended.set()
        sys.setswitchinterval(self._switch)
        found = Recording(os.getpid(), self._begin, time.time_ns(), spans=list(self.spans))
        numbers: dict[Any, int] = {}
        for when, codes in list(self._samples):
            found.samples.append((when, tuple(numbers.setdefault(code, len(numbers)) for code in codes)))
        found.functions = [_function(code) for code in numbers]
        if self._torch is not None:
            _take_ops(self._torch, found)
        return found


_active: _Recorder | None = None


def start(ops: bool = False) -> None:
    """Begins to record this thread. Forgets an earlier recording that was not taken.

    ``ops``: records torch's operations instead of stacks. With both, a small model would be slowed down so much that
    neither would be true.
    """
    global _active
    if _active is not None:
        stop()
    _active = _Recorder(ops)


def stop() -> Recording:
    """Ends the recording and returns it."""
    global _active
    recorder, _active = _active, None
    return recorder.stop() if recorder is not None else Recording(os.getpid())


def _nothing() -> None:
    pass


def begin(name: str, kind: str = PHASE) -> Callable[[], None]:
    """Begins a span, if a recording is under way. The returned function ends it."""
    return _nothing if _active is None else _active.begin(name, kind)


@contextmanager
def span(name: str, kind: str = PHASE) -> Iterator[None]:
    """Records what is done inside as a span, if a recording is under way."""
    end = begin(name, kind)
    try:
        yield
    finally:
        end()


def timed(name: str, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function with every call recorded as a span."""

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with span(name, kind):
            return function(*arguments, **named)

    return call


def _function(code: Any) -> str:
    """Returns ``package/module.py:Class.function``, with the last two parts of the file's path."""
    return "/".join(code.co_filename.split("/")[-2:]) + ":" + getattr(code, "co_qualname", code.co_name)


def _torch_profiler() -> Any:
    gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    profiler = profile(activities=[ProfilerActivity.CPU, *gpu])
    profiler.start()
    return profiler


def _take_ops(profiler: Any, found: Recording) -> None:
    profiler.stop()
    averages = profiler.key_averages()
    found.ops = sorted(
        (
            Op(row.key, row.count, row.self_cpu_time_total, row.cpu_time_total, row.self_device_time_total)
            for row in averages
        ),
        key=lambda op: -op.own - op.gpu,
    )
    origin = profiler.profiler.kineto_results.trace_start_ns()
    on_cpu = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CPU]
    for event in on_cpu[:OP_EVENTS]:
        begin = origin + int(event.time_range.start * 1000)
        found.op_events.append((event.name, begin, begin + int(event.time_range.elapsed_us() * 1000)))
