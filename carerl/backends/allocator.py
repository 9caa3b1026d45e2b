"""Has torch's allocator of GPU memory use segments that grow, which waste less of a card than blocks of fixed size.

torch keeps freed memory in blocks of the sizes that were asked for. Rows of other lengths in every micro-batch leave
holes, and a run can be out of memory though a tenth of the card is free. With ``expandable_segments`` a block grows
page by page, and there are no such holes (torch's ``c10/cuda/CUDACachingAllocator.cpp``, "Expandable segments").

Who uses it: the learner and the reference. Who does not:

- engines: vLLM takes its memory once, and its sleep mode has an allocator of its own, which turns these segments off
- a learner that sends weights as handles to GPU memory (``sync.transfer=ipc``): a handle to such a segment is opened
  through ``pidfd_getfd``, for which the engine needs the right to trace the learner's process. Docker's own profile and
  Yama's default (``ptrace_scope`` 1) refuse that between two actors, and where it is allowed vLLM's source says that
  opening handles takes nine times as long. So a colocated run has no growing segments, unless it sends its weights by
  ``sync.transfer=shm``. One whose user asks torch for them by a variable is refused
  (:func:`carerl.config.transfer.allocator_errors`) and not quietly changed: the user knows which of the two ways out
  costs less

No GPU was there to measure it: all of this is read from torch's and vLLM's source.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from carerl.config.transfer import ALLOCATOR_VARIABLES, GROWING


def grow_segments(wanted: bool, environment: Mapping[str, str] = os.environ) -> bool:
    """Turns growing segments on or off for what this process allocates from now on; returns True if they are on by
    this. Does nothing if one of ``ALLOCATOR_VARIABLES`` is set: a user's own settings win, and torch forgets all that
    are not named again.

    A variable set here would come too late, as torch reads it while it is loaded."""
    if any(environment.get(name) for name in ALLOCATOR_VARIABLES):
        return False
    torch._C._accelerator_setAllocatorSettings(f"{GROWING}:{wanted}")
    return wanted
