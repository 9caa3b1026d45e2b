"""The process that renders a model's chat template: a stranger's program, which may loop or grow without end.

:mod:`carerl.tasks.chat_templates` runs it as a script; it imports nothing of carerl. It reads one request a line and
answers with one line. It ends when its input ends, when it is idle, and when a request takes too much processor time.
"""

from __future__ import annotations

import json
import math
import resource
import select
import sys
from typing import Any


def main(seconds: float, memory_mib: int, idle_s: float) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + memory_mib * 2**20 + used, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while select.select([sys.stdin], [], [], idle_s)[0]:
        line = sys.stdin.readline()
        if not line:
            return
        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = math.ceil(usage.ru_utime + usage.ru_stime + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        sys.stdout.write(json.dumps(_answer(json.loads(line), render_jinja_template)) + "\n")
        sys.stdout.flush()


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _answer(request: dict[str, Any], render: Any) -> dict[str, Any]:
    try:
        texts, _ = render(**request)
        return {"texts": texts}
    except MemoryError:
        return {"error": "it needs too much memory"}
    except RecursionError:
        return {"error": "it calls itself without end"}
    except Exception as error:  # a template is a program, and raises what it likes
        line = getattr(error, "lineno", None)
        place = f" (line {line} of the template)" if line else ""
        return {"error": f"{type(error).__name__}: {error}{place}"}


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
