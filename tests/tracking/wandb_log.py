"""An offline W&B run read back from its file, without W&B's own reader (0.31 has none in Python)."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any


def read_log(path: Path) -> list[Any]:
    """The records of an offline run. The file is a LevelDB log: after seven bytes of its own, blocks of
    32 KiB with chunks of checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last)."""
    deadline = time.monotonic() + 20
    while True:  # W&B's own process writes the end of the file just after finish() returns
        records = parse_log(path.read_bytes())
        if of_kind(records, "exit") or time.monotonic() > deadline:
            return records
        time.sleep(0.05)


def parse_log(data: bytes) -> list[Any]:
    from wandb.proto import wandb_internal_pb2

    at, whole, records = 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block that no header fits into
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if at + 7 + length > len(data):  # still being written
            break
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            records.append(record)
            whole = b""
    return records


def of_kind(records: list[Any], kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def history(records: list[Any]) -> dict[int, dict[str, Any]]:
    """What was logged, by W&B's own step. Pictures and tables come as their parts: ``rollout/table/path``."""
    found: dict[int, dict[str, Any]] = {}
    for row in of_kind(records, "history"):
        items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item}
        assert row.step.num not in found, "one row a step"
        found[row.step.num] = {name: value for name, value in items.items() if not name.startswith("_")}
    return found
