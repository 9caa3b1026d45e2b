"""Evaluate a model on benchmarks.

    carerl evaluate model=runs/care_grpo_tiny-s100-…            a run: what it was evaluated on in the loop
    carerl evaluate model=Qwen/Qwen2.5-7B-Instruct benchmarks=[math500,gsm8k,selfaware,truthfulqa] samples=16
    carerl evaluate model=DIR benchmarks=[gsm8k,my.jsonl] data=FOLDER questions=200 out=evaluations/mine
    carerl evaluate model=DIR decode.methods=[greedy,self_consistency,self_certainty,deepconf,cat] decode.budget=10

model=            a run, a checkpoint, a Hugging Face directory, a hub id, smollm2 (a small model from the package
                  index), or base_bytes (an untrained model that reads bytes, to try the plumbing with). Adapters are
                  put together with their base first: the whole model is written to merged/ in the run, or beside them
benchmarks=       names, or .jsonl files of your own
data=             a folder with the benchmarks' data; a benchmark that is not there comes from the hub
samples=16        responses to a question
questions=0       questions of each benchmark; 0: all
trace_swap=false  true: ask each decision between options again after the trace of a question that was decided
                  otherwise; the share that changes is eval/{suite}/swap_flips
decode.methods=[] methods of inference that answer the questions too, with decode.budget responses to each: accuracy,
                  calibration, tokens and seconds of every method, and its differences to self_consistency
                  (carerl run --help decode lists the settings)
decode.show=      the id of a question of which each method's tree is printed; a complete evaluation shows it too
temperature=, max_new_tokens=, engine=vllm|hf, dtype=
out=              the directory that is written to; the same command with the same out= resumes a stopped evaluation

Any other setting is given by its name, as in rollout.gpus_per_actor=1 rollout.actors=8 (carerl run --help rollout
lists a section's).

Exit codes: 0 done; 2 the settings are refused (nothing was started); 128 + signal when stopped and saved;
1 anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from carerl import cli
from carerl.config.evaluate import as_typed, evaluation_config
from carerl.errors import ConfigError
from carerl.text.terminal import command


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(
        words, _evaluate, __doc__ or "", interrupted="ended at once; the same command with out= resumes it"
    )


def _evaluate(words: list[str]) -> int:
    from carerl.controller.evaluate_model import launch
    from carerl.controller.models.base_model import fetch_model
    from carerl.controller.models.merged import merged_model

    try:
        return launch(evaluation_config(words, fetch_model, merged_model)).exit_code
    except ConfigError as error:
        raise as_typed(error, words) from None


if __name__ == "__main__":
    sys.exit(command(main))
