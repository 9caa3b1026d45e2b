"""Waits for actors: ``ask(refs, phase, seconds)`` (:meth:`Asker.__call__`) is the only way to do so.

It waits in slices of a second. If a call takes longer than a few of them, its actor is watched: it is asked for a sign
of life, which a thread of its own gives while the work goes on (:meth:`carerl.actors.workers.base.Worker.pulse`), and
which says how far the work has come. Two limits apply. There is none on how long a call may take as a whole, since a
slow engine that makes progress is a good engine:

``cluster.answer_seconds``     without a sign of life: the process is stopped, or its node or the network is gone
``cluster.progress_minutes``   alive, but without progress: it hangs, in a collective or a GPU's kernel

Loading, saving and starting report no progress on their way, and may take four times the second limit. A process that
imports libraries or builds a model may be mute for five times the first. Once a stop was asked for (SIGTERM, Ctrl-C, a
node that is drained), a call may still end, so that the step is saved, but both limits are a quarter of what they were;
a call that has nothing to save, such as loading before the first step, is left at once.

A failure becomes an :class:`~carerl.actors.health.failures.ActorFailed`, with Ray's own words in the error log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError

from carerl.actors.health.error_log import ErrorLog
from carerl.actors.health.failures import RESUME, ActorFailed, ActorStuck, Where, failure_of, origin, weight
from carerl.config.plan.advice import NO_ADVICE, Advice
from carerl.config.schema import ClusterConfig
from carerl.progress import Pulse

SLICE_S = 1.0
WATCH = "watch"  # the concurrency group of the thread that gives signs of life
WRITE = "write"  # that of the thread that writes files beside other work
CAUSES_S = 5.0  # how long the other actors' failures are waited for once a call has failed: one may be the cause
WITHOUT_PROGRESS = frozenset({"load", "restore", "save", "export"})  # phases that report none, and may take longer
MUTE = frozenset({"start", "load"})  # phases in which imports and C code may hold Python for long
UNSAVED = frozenset({"start", "load"})  # phases that a stop ends at once: there is nothing to save yet
SLOWER, MUTER, STOPPING = 4.0, 5.0, 0.25


@dataclass
class Member:
    """Names an actor that is waited for: ``name`` is its role and number."""

    name: str
    handle: Any
    pid: int = 0
    node: str = ""


@dataclass
class _Watched:
    """Holds what is known of one actor while a call to it is under way. Times are those of ``time.monotonic``."""

    member: Member
    moved: float
    steps: int = -1
    stack: str = ""
    pulse: Any = None  # the sign of life that is waited for
    asked: float = 0.0


@dataclass
class Asker:
    """Waits for the actors that were enlisted. ``stopped`` returns the exit code of a stop that was asked for, 0
    without one; ``check`` raises if there is one; ``lost`` says in words that the cluster's head is gone, '' while it
    is there. Without members it waits for as long as it takes."""

    settings: ClusterConfig = field(default_factory=ClusterConfig)
    stopped: Callable[[], int] = lambda: 0
    check: Callable[[], None] = lambda: None
    lost: Callable[[], str] = lambda: ""
    oom_kills: Callable[[], int] = lambda: 0
    node: str = ""  # of this process, whose count of OOM kills it is
    advice: Callable[[str, str], Advice] = lambda role, phase: NO_ADVICE  # for a role whose memory runs out
    log: ErrorLog = field(default_factory=ErrorLog)
    members: dict[str, Member] = field(default_factory=dict)  # by Ray's id of the actor

    def enlist(self, name: str, handle: Any, pid: int = 0, node: str = "") -> None:
        """Adds an actor to those that are watched; called again, adds what is known of its process."""
        self.members[handle._actor_id.hex()] = Member(name, handle, pid, node)

    def __call__(self, refs: Any, phase: str, seconds: float | None = None, along: Sequence[Any] = ()) -> Any:
        """Waits for references, a list or a single one, and returns their values. ``phase``: what is being done, as
        messages name it. ``seconds``: the limit without progress, in place of the phase's own. ``along``: actors that
        those who were called call in turn, and that are watched like them. Raises ActorFailed."""
        if not isinstance(refs, list):
            return self([refs], phase, seconds)[0]
        return self._wait(refs, phase, seconds, fetch=True, along=along)

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Turns what Ray raises inside into ActorFailed."""
        try:
            yield
        except RayError as error:
            raise self.translated(error) from error

    def wait(self, refs: Sequence[Any], phase: str, seconds: float | None = None) -> None:
        """Waits until all values exist, without copying them here. A failed call is raised to whoever takes its
        value."""
        self._wait(list(refs), phase, seconds, fetch=False)

    def some(self, refs: list[Any], phase: str) -> tuple[dict[Any, Any], list[Any]]:
        """Waits for a slice; returns the values that exist, by their references, and the other references."""
        done, pending = ray.wait(refs, num_returns=len(refs), timeout=SLICE_S)
        try:
            return dict(zip(done, ray.get(done), strict=True)), pending
        except RayError as error:
            raise self._told(self._failure(error, done, [], phase, 0.0)) from error

    def ended(self, refs: list[Any]) -> bool:
        """Returns True once all values exist, or cannot come to exist any more. Does not wait."""
        return not ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)[1]

    def put(self, value: Any) -> Any:
        """Puts a value into the object store and returns a reference to it. Raises ActorFailed if the store is full."""
        try:
            return ray.put(value)
        except RayError as error:
            raise self.translated(error) from error

    def _wait(
        self, refs: list[Any], phase: str, seconds: float | None, fetch: bool, along: Sequence[Any] = ()
    ) -> list[Any]:
        """Waits until all values exist, and watches actors meanwhile; returns the values if ``fetch``."""
        begin = time.monotonic()
        pending = list(dict.fromkeys(refs))
        values: dict[Any, Any] = {}
        watched: dict[str, _Watched] = {}
        done: list[Any] = []
        taking_part = {actor._actor_id.hex() for actor in along}
        try:
            while pending:
                done, pending = ray.wait(pending, num_returns=len(pending), timeout=SLICE_S, fetch_local=fetch)
                if fetch and done:
                    values |= dict(zip(done, ray.get(done), strict=True))
                if pending:
                    self._look({_actor_of(ref) for ref in pending} | taking_part, watched, phase, begin, seconds)
        except RayError as error:
            raise self._told(self._failure(error, done, pending, phase, time.monotonic() - begin)) from error
        return [values[ref] for ref in refs] if fetch else []

    # ---- what is wrong ------------------------------------------------------------------------------

    def where(self, ref: Any, phase: str, seconds: float) -> Where:
        """Returns which actor makes a value, and what it was asked for."""
        member = self.members.get(_actor_of(ref))
        name = member.name if member else "an actor"
        return Where(name, member.pid if member else 0, member.node if member else "", phase, seconds)

    def _failure(self, error: RayError, done: list[Any], pending: list[Any], phase: str, seconds: float) -> ActorFailed:
        """Looks at all failures of a call, and returns the one that caused the others."""
        late: list[Any] = []
        if pending:
            late, _ = ray.wait(pending, num_returns=len(pending), timeout=CAUSES_S, fetch_local=False)
        found = []
        for ref in [*done, *late]:
            try:
                ray.get(ref, timeout=SLICE_S)
            except GetTimeoutError:
                continue
            except RayError as own:
                found.append(self._of(own, ref, phase, seconds))
        return max(found or [self._of(error, None, phase, seconds)], key=weight)

    def _of(self, error: RayError, ref: Any, phase: str, seconds: float) -> ActorFailed:
        """Returns Ray's error in words. OOM kills count only on the driver's own node."""
        where = self._place(error, ref, phase, seconds)
        with suppress(Exception):  # a plan that cannot be made must not hide what failed
            where = replace(where, advice=self.advice(where.role, phase))
        return failure_of(error, where, self.oom_kills() if where.node in ("", self.node) else 0)

    def _place(self, error: RayError, ref: Any, phase: str, seconds: float) -> Where:
        """Returns which actor failed. If one died, Ray says which; it need not be the one that was called."""
        where = self.where(ref, phase, seconds)
        error = origin(error)
        member = self.members.get(str(getattr(error, "actor_id", None)))
        pid = getattr(error, "pid", None)
        member = member or next((m for m in self.members.values() if pid and m.pid == pid), None)
        return replace(where, actor=member.name, pid=member.pid, node=member.node) if member else where

    def _told(self, failure: ActorFailed) -> ActorFailed:
        """Writes a failure's details to the log, and gives it the exit code of a stop that it came after; returns
        it."""
        failure.log = self.log.write(str(failure.where), failure.details)
        if code := self.stopped():
            failure.exit_code = code
        return failure

    def translated(self, error: RayError) -> ActorFailed:
        """Returns in words what Ray raised outside of a call, for instance when the cluster is gone."""
        return self._told(failure_of(error, Where("the Ray cluster")))

    # ---- signs of life ------------------------------------------------------------------------------

    def _look(
        self, actors: set[str], watched: dict[str, _Watched], phase: str, begin: float, seconds: float | None
    ) -> None:
        """Checks on calls that have not ended within a slice, and on the actors that they wait for, by Ray's ids.
        Raises what ends the wait."""
        if phase in UNSAVED:
            self.check()
        if gone := self.lost():
            where = Where("the head of the Ray cluster", phase=phase, seconds=time.monotonic() - begin)
            raise self._told(HeadGone(where, gone, f"start the cluster again; then {RESUME}"))
        answer, progress = self.limits(phase, seconds)
        now = time.monotonic()
        if now - begin < min(5.0, answer / 4):
            return
        working = actors & set(self.members)  # the others have ended and owe no sign
        for actor in working:
            one = watched.setdefault(actor, _Watched(self.members[actor], begin))
            self._listen(one, now, answer)
        for one in (watched[actor] for actor in working):
            if one.pulse is not None and now - one.asked > answer:
                raise self._told(_mute(one, phase, now - begin, now - one.asked, self.stopped()))
            if now - one.moved > progress:
                raise self._told(_still(one, phase, now - begin, now - one.moved, self.stopped()))

    def limits(self, phase: str, seconds: float | None = None) -> tuple[float, float]:
        """Returns for how many seconds a call in this phase may give no sign of life, and make no progress."""
        answer = self.settings.answer_seconds * (MUTER if phase in MUTE else 1.0)
        progress = self.settings.progress_minutes * 60 * (SLOWER if phase in WITHOUT_PROGRESS else 1.0)
        part = STOPPING if self.stopped() else 1.0
        return answer * part, (progress if seconds is None else seconds) * part

    def _listen(self, one: _Watched, now: float, answer: float) -> None:
        """Takes a sign of life if one has come, and asks for the next. Raises RayError if the actor has died."""
        if one.pulse is not None:
            done, _ = ray.wait([one.pulse], timeout=0)
            if not done:
                return
            try:
                pulse: Pulse = ray.get(one.pulse)
            except ActorUnavailableError:  # a broken connection may come back, within the same limit
                one.pulse = self._pulse(one)
                return
            one.pulse = None
            if pulse.steps != one.steps:
                one.steps, one.moved = pulse.steps, now
            one.stack = pulse.stack
        if now - one.asked >= min(10.0, answer / 4):
            one.pulse, one.asked = self._pulse(one), now

    def _pulse(self, one: _Watched) -> Any:
        return one.member.handle.pulse.options(concurrency_group=WATCH).remote()


class HeadGone(ActorFailed):
    """The cluster's head does not answer any more."""

    what = "it does not answer"


def _mute(one: _Watched, phase: str, seconds: float, mute: float, stopped: int) -> ActorStuck:
    """Returns the failure of an actor that gives no sign of life."""
    cause = (
        f"its process has given no sign of life for {mute:.0f} s: it is stopped (SIGSTOP, a debugger), hangs "
        "in C code, or its node cannot be reached"
    )
    remedy = f"look at that process and node; {RESUME}. {_longer('cluster.answer_seconds', stopped)}"
    return ActorStuck(_where(one, phase, seconds), cause, remedy, _stack(one))


def _still(one: _Watched, phase: str, seconds: float, still: float, stopped: int) -> ActorStuck:
    """Returns the failure of an actor that makes no progress."""
    cause = f"its process is alive and has made no progress for {still:.0f} s; the log says where it is"
    remedy = f"{RESUME}; if it happens again, that place in the log is at fault. "
    remedy += _longer("cluster.progress_minutes", stopped)
    return ActorStuck(_where(one, phase, seconds), cause, remedy, _stack(one))


def _longer(setting: str, stopped: int) -> str:
    """Returns which setting gives more time."""
    return f"{setting} sets this limit{', of which a quarter is left once a stop was asked for' if stopped else ''}"


def _where(one: _Watched, phase: str, seconds: float) -> Where:
    return Where(one.member.name, one.member.pid, one.member.node, phase, seconds)


def _stack(one: _Watched) -> str:
    """Returns where an actor was last seen, for the log."""
    return (
        f"where it was when it last gave a sign of life:\n{one.stack}" if one.stack else "it never gave a sign of life"
    )


def _actor_of(ref: Any) -> str:
    """Returns Ray's id, in hex, of the actor that makes a value; '' if no actor makes it."""
    try:
        return str(ref.task_id().actor_id().hex())
    except (AttributeError, RuntimeError):
        return ""
