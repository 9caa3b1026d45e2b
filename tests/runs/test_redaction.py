"""What of a config leaves the machine."""

from __future__ import annotations

import json

from carerl.runs.redaction import public_config, redact

SECRETS = {
    "wandb_api_key": "sk-1111",
    "HF_TOKEN": "hf_2222",
    "clientSecret": "3333",
    "db": {"password": "4444", "PASSWORDS": ["5555", "6666"], "keys": {"left": "7777", "right": 8888}},
    "store": "s3://user:9999@bucket/path",
    "mirror": "https://host/simple?token=aaaa&x=1",
    "urls": ["https://bbbb@host/x"],
}


def test_no_secret_survives_anywhere_in_the_structure() -> None:
    text = json.dumps(redact(SECRETS))
    for secret in ("1111", "2222", "3333", "4444", "5555", "6666", "7777", "8888", "9999", "aaaa", "bbbb"):
        assert secret not in text, secret
    assert "bucket/path" in text and "host/simple" in text and "x=1" in text


def test_counts_of_tokens_are_no_secrets() -> None:
    settings = {"max_new_tokens": 8, "head_chunk_tokens": 4096, "beta": 3.0, "path": "Qwen/Qwen2.5-3B"}
    assert redact(settings) == settings


def test_only_allowed_fields_leave() -> None:
    config = {"recipe": "care", "seed": 1, "task": {"name": "tiny"}, "cluster": {"address": "10.0.0.1"}}
    config |= {"runs_dir": "/home/me/runs", "tracking": {"wandb": "online"}, "plugins": ["mine"], "novel": 1}
    assert public_config(config) == {"recipe": "care", "seed": 1, "task": {"name": "tiny"}}
