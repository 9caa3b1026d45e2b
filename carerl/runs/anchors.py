"""Keeps the anchors that a run's reference has answered: ``anchors.parquet``, a row for each, in the order of use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from carerl.loss.anchored import Anchor
from carerl.runs.tables import arrow_type, write_parquet
from carerl.types import RunError

COLUMNS: dict[str, str] = {
    "number": "int64",  # from 0: step k of the run takes the next ones of anchor.per_step
    "prompt": "string",
    "response": "string",
    "prompt_ids": "list<int32>",
    "response_ids": "list<int32>",
}


def write_anchors(path: Path, anchors: Sequence[Anchor], decode: Callable[[Sequence[int]], str]) -> None:
    """Writes the file in one go: it is whole or not there."""
    import pyarrow as pa

    values = {
        "number": list(range(len(anchors))),
        "prompt": [decode(list(own.prompt_ids)) for own in anchors],
        "response": [decode(list(own.response_ids)) for own in anchors],
        "prompt_ids": [list(own.prompt_ids) for own in anchors],
        "response_ids": [list(own.response_ids) for own in anchors],
    }
    write_parquet(path, pa.table({name: pa.array(values[name], arrow_type(kind)) for name, kind in COLUMNS.items()}))


def read_anchors(path: Path) -> list[Anchor]:
    """Returns the anchors of a file, in the order of use. Raises OSError or ValueError for one that cannot be read."""
    import pyarrow.parquet as pq

    columns = pq.read_table(path, columns=["prompt_ids", "response_ids"]).to_pydict()
    return [
        Anchor(tuple(prompt), tuple(response))
        for prompt, response in zip(columns["prompt_ids"], columns["response_ids"], strict=True)
    ]


def kept_anchors(path: Path, per_step: int) -> list[Anchor]:
    """Returns the anchors of a run that goes on. Raises RunError where they are not there, or not all of whole steps:
    the engines do not hold the reference's weights any more."""
    try:
        found = read_anchors(path)
        reason = f"it has {len(found)} anchors, and a step takes {per_step}"
    except (OSError, ValueError) as error:
        found, reason = [], str(error)
    if not found or len(found) % per_step:
        raise RunError(
            f"{path} cannot be used ({reason}): the reference answered its anchors before the first step, and the "
            "engines do not hold its weights any more. Bring the file back, or start a new run"
        )
    return found
