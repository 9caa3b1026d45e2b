"""Records in actors and driver what Ray adds: each call, each wait for a reference, each copy.

The worker classes do not know of it: a run that is profiled starts subclasses of them.
"""

from __future__ import annotations

import inspect
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray

from carerl.backends import recorder
from carerl.backends.recording import CALL, COPY, WAIT, Recording, Span

# Ray's own names of what its processes do around a call, as its timeline has them
COPIES = ("task:deserialize_arguments", "task:store_outputs", "submit_task")
TIMELINE_SECONDS = 5.0  # in which processes report what they did; Ray's interval is one second


def traced(worker: type) -> type:
    """Returns a subclass of a worker class that records every call, and has methods to begin and end a recording."""
    named = inspect.getmembers(worker, inspect.isfunction)
    methods = {
        name: recorder.timed(f"{worker.__name__}.{name}", CALL, method)
        for name, method in named
        if not name.startswith("_")
    }
    return type(worker.__name__, (worker,), {**methods, "record": _record, "recorded": _recorded})


def _record(self: Any, ops: bool) -> None:
    record(ops)


def _recorded(self: Any) -> Recording:
    return recorded()


_ray: dict[str, Callable[..., Any]] = {}


def record(ops: bool = False) -> None:
    """Begins a recording of this process, with Ray's calls in it."""
    if not _ray:
        _ray.update(get=ray.get, put=ray.put, wait=ray.wait)
        ray.get = _get  # every caller writes ray.get, so that none of them has to know
        ray.put = recorder.timed("ray.put", COPY, ray.put)
        ray.wait = recorder.timed("ray.wait", WAIT, ray.wait)
    recorder.start(ops)


def recorded() -> Recording:
    """Ends the recording and returns it."""
    found = recorder.stop()
    for name, function in _ray.items():
        setattr(ray, name, function)
    _ray.clear()
    found.host = socket.gethostname()
    found.worker = ray.get_runtime_context().get_worker_id()
    return found


def _get(references: Any, **settings: Any) -> Any:
    """Does what ``ray.get`` does, in two spans: waiting until the values exist, and copying them."""
    asked = list(dict.fromkeys(references if isinstance(references, list) else [references]))
    if asked:
        with recorder.span("ray.get: wait", WAIT):
            _ray["wait"](asked, num_returns=len(asked), timeout=settings.get("timeout"))
    with recorder.span("ray.get: copy", COPY):
        return _ray["get"](references, **settings)


def add_copies(recordings: Sequence[Recording]) -> str:
    """Adds what Ray's timeline knows of each process: arguments copied to it and values copied from it. Returns in
    words what is missing, or ''. Is called after the processes were asked for their recordings: an event of that call
    shows that they have reported everything before it."""
    try:
        events = _timeline(recordings)
    except Exception as error:  # another version of Ray, or a cluster that keeps no events
        return f"Ray's timeline could not be read ({type(error).__name__}: {error}): copies of arguments are missing"
    by_worker = {recording.worker: recording for recording in recordings}
    for worker, name, begin, wall in events:
        recording = by_worker.get(worker)
        if recording is not None and recording.begin <= begin <= recording.end:
            recording.spans.append(Span(name, COPY, begin, begin + wall, wall))
    return ""


def _timeline(recordings: Sequence[Recording]) -> list[tuple[str, str, int, int]]:
    """Returns (worker, name, begin, wall) of Ray's copies, times in ns. Waits until every process has reported
    something after its recording, for :data:`TIMELINE_SECONDS` at most."""
    deadline = time.monotonic() + TIMELINE_SECONDS
    while True:
        events = [
            (event["tid"].partition(":")[2], event["name"], _ns(event["ts"]), _ns(event["dur"]))
            for event in ray.timeline()
            if event["name"] in COPIES
        ]
        newest: dict[str, int] = {}
        for worker, _, begin, _ in events:
            newest[worker] = max(newest.get(worker, 0), begin)
        if time.monotonic() > deadline or all(newest.get(r.worker, 0) >= r.end for r in recordings):
            return events
        time.sleep(0.2)


def _ns(microseconds: float) -> int:
    return int(microseconds * 1000)
