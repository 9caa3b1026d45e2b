"""``python -m carerl.evaluate model=DIR benchmarks=[math500,gsm8k] samples=16``: a model on benchmarks.

    python -m carerl.evaluate model=runs/care_grpo_tiny-s100-…            a run: what it was evaluated on in the loop
    python -m carerl.evaluate model=Qwen/Qwen2.5-7B-Instruct benchmarks=[math500,gsm8k,selfaware,truthfulqa] samples=16
    python -m carerl.evaluate model=DIR benchmarks=[gsm8k,my.jsonl] data=FOLDER questions=200 out=evaluations/mine

``model=``: a run, a checkpoint, a Hugging Face directory, a hub id, ``smollm2``, a small model from the package index,
or ``base_bytes``, an untrained model that reads bytes, to try the plumbing with. ``benchmarks=``: names, or .jsonl
files of your own; their data are taken from ``data=FOLDER`` where it has them, else from the hub. ``samples=`` to a
question (16), ``questions=`` of each benchmark (0: all), ``temperature=``, ``max_new_tokens=``, ``engine=vllm|hf``,
``out=`` the directory it is written to. Any other setting by its name, as ``rollout.gpus_per_actor=1
rollout.actors=8`` (``python -m carerl.run --help rollout`` lists a section's).
The same command with the same out= goes on with what was stopped.

Exit codes: 0 done; 2 the settings are refused (nothing was started); 128 + signal when stopped and saved;
1 anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from carerl.config.evaluate import as_typed, evaluation_config
from carerl.errors import ConfigError
from carerl.text.printable import printable
from carerl.text.terminal import command


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or "--help" in words or "-h" in words:
        print(__doc__)
        return 0
    from carerl.controller.evaluate_model import launch
    from carerl.controller.models.base_model import fetch_model
    from carerl.runs.directory import RunDirectoryError
    from carerl.types import RunError

    try:
        return launch(evaluation_config(words, fetch_model)).exit_code
    except ConfigError as error:
        print(printable(as_typed(error, words)), file=sys.stderr)
        return 2
    except (RunError, RunDirectoryError) as error:
        print(printable(error), *map(printable, getattr(error, "__notes__", [])), sep="\n", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("ended at once; the same command with out= goes on with it", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(command(main))
