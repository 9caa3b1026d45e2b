"""Renders chats with a model's chat template.

A chat template is a program that comes with the model. transformers keeps it from touching anything, but not from
running for ever or filling the memory. So it is rendered in a separate process, which can be ended. That one process
serves all tokenizers, starts in about a second with the first of them, and ends when it has been idle.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 10.0  # of processor time, for the prompts of one call
WALL_S = 120.0  # for the same, however busy the cores are
ENDING_S = 5.0  # within which a process whose pipe is closed has ended
START_S = 60.0  # for the process to come up
MEMORY_MIB = 2048  # above what the process has
IDLE_S = 5.0  # a process that imports transformers takes 0.3 GiB, and prompts are rendered at the start
THINKING_SWITCH = "enable_thinking"  # the variable of Qwen3's template, which other models' have taken over
Chat = Sequence[dict[str, str]]


class TemplateError(ValueError):
    """Reports a chat template that raises, takes too long, or loses part of what it was given."""


class TemplateEndedError(TemplateError):
    """Reports a chat template whose process had to be ended."""


def has_thinking_switch(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Returns True if the chat template can be told not to think first, as Qwen3's."""
    return THINKING_SWITCH in str(getattr(tokenizer, "chat_template", None) or "")


def render(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], generation: bool = True, thinks: bool = True
) -> list[str]:
    """Returns the text of each chat, by the tokenizer's chat template. ``generation`` appends the beginning of an
    answer. ``thinks`` false tells a template with a switch for it that the answer comes without thinking first; true
    says nothing, so that the template's own default holds. Raises TemplateError in the template's own words."""
    switches = {} if thinks else {THINKING_SWITCH: False}
    if not _is_the_usual(tokenizer):  # a class of the model's own: it has no template, or does something else with it
        return _by_itself(tokenizer, chats, generation, switches)
    special: dict[str, Any] = {name: str(text) for name, text in tokenizer.special_tokens_map.items()
                               if isinstance(text, str)}  # fmt: skip
    request = {
        "conversations": [list(chat) for chat in chats],
        "chat_template": tokenizer.get_chat_template(),
        "add_generation_prompt": generation,
        **special,
        **switches,
    }
    with _LOCK:
        return _CHILD.ask(request)


def _is_the_usual(tokenizer: Any) -> bool:
    from transformers import PreTrainedTokenizerBase

    own = getattr(tokenizer.apply_chat_template, "__func__", None)
    return own is PreTrainedTokenizerBase.apply_chat_template


def _by_itself(tokenizer: Any, chats: Sequence[Chat], generation: bool, switches: dict[str, bool]) -> list[str]:
    try:
        return [
            str(tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=generation, **switches))
            for chat in chats
        ]
    except Exception as error:
        raise TemplateError(f"{type(error).__name__}: {error}") from error


class _Child:
    """Runs the process that renders: starts it with the first request, and again after it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, Any]) -> list[str]:
        line = json.dumps(request).encode() + b"\n"
        fresh = self._process is None or self._process.poll() is not None
        found = self._exchange(line)
        if found is None and not fresh and not self._killed():  # it went idle while it was asked
            found = self._exchange(line)
        if found is None:
            raise TemplateEndedError(self._fate())
        if "error" in found:
            raise TemplateError(str(found["error"]))
        texts: list[str] = found["texts"]
        return texts

    def _fate(self) -> str:
        """Says why there is no answer, and ends the process if it is still there."""
        code = None
        with suppress(subprocess.TimeoutExpired):  # its pipe closes a moment before it has ended
            code = self._process.wait(ENDING_S) if self._process is not None else None
        self.close()
        if code == -signal.SIGXCPU:
            return f"it took more than {SECONDS:g} s of processor time, and was ended"
        return (
            f"it took more than {WALL_S:g} s, and was ended" if code is None else f"its process ended with code {code}"
        )

    def _killed(self) -> bool:
        return self._process is not None and bool(self._process.wait())

    def _exchange(self, line: bytes) -> dict[str, Any] | None:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            return _read(process.stdout, WALL_S + START_S)
        except BrokenPipeError:
            return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            script = str(Path(__file__).with_name("template_child.py"))
            self._process = subprocess.Popen(
                # -P: beside the script lie modules named as some of Python's own
                [sys.executable, "-P", script, str(SECONDS), str(MEMORY_MIB), str(IDLE_S)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # a Ctrl-C is for the one who asks
            )
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with suppress(OSError):  # what was left in it has no reader
                        stream.close()
            self._process = None


def _read(stream: IO[bytes], seconds: float) -> dict[str, Any] | None:
    """Reads a line of JSON; None if none comes in time, or the writer has ended."""
    deadline, parts, descriptor = time.monotonic() + seconds, [], stream.fileno()
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        part = os.read(descriptor, 2**20)
        parts.append(part)
        if not part:
            return None
        if part.endswith(b"\n"):
            found: dict[str, Any] = json.loads(b"".join(parts))
            return found
    return None


_CHILD, _LOCK = _Child(), threading.Lock()
atexit.register(_CHILD.close)
