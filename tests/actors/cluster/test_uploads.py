"""What ``working_dir=`` sends: looked at in the package that Ray itself makes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from carerl import job
from carerl.actors.cluster import jobs, uploads

TOKEN = "hf_" + "abcdefgh" * 4
SECRET = [".env", ".env.local", "prod.env", ".netrc", "deploy/server.pem", "deploy/tls.key", "id_rsa", "id_ed25519.bak",
          ".aws/credentials", ".ssh/config", ".git/config", "gcp/service_account_1.json", "secrets.yaml", "a [b]!.key",
          "#odd.pem"]  # fmt: skip
OPEN = ["recipes/mine.yaml", "my_plugin.py", "README.md", ".env.example", "id_rsa.pub", "keyboard.py", "tokenizer.json",
        "environment.yml", "data/rows.jsonl"]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*SECRET, *OPEN):
        (tmp_path / "w" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "w" / name).write_text("x\n")
    (tmp_path / "w" / "notes.txt").write_text(f"login with {TOKEN}\n")
    (tmp_path / "w" / "other.txt").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    return tmp_path / "w"


def sent(folder: Path, excludes: list[str], target: Path) -> set[str]:
    """The names in the archive that Ray makes of a folder."""
    from ray._private.runtime_env.packaging import create_package

    create_package(str(folder), target, include_gitignore=True, excludes=excludes)
    return {name for name in zipfile.ZipFile(target).namelist() if not name.endswith("/")}


def test_hole_secrets_stay_here_and_all_else_is_sent(folder: Path, tmp_path: Path) -> None:
    assert set(SECRET) <= sent(folder, [], tmp_path / "all.zip"), "what Ray sends by itself"
    kept = uploads.kept_back(folder)
    assert sent(folder, uploads.patterns(kept), tmp_path / "some.zip") == set(OPEN)
    assert {"notes.txt", "other.txt", ".env", ".aws/", ".git/", "deploy/server.pem"} <= set(kept)
    text = uploads.told(".", kept)
    assert "notes.txt (a token" in text and "other.txt (a private key in it)" in text and TOKEN not in text


def test_the_value_of_a_secret_variable_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "settings.ini").write_text("password = correct-horse-battery\n")
    assert "settings.ini" not in uploads.kept_back(folder)
    monkeypatch.setenv("DB_PASSWORD", "correct-horse-battery")
    assert "settings.ini" in uploads.kept_back(folder)


def test_a_folder_without_secrets_is_sent_whole(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("a: 1\n")
    (tmp_path / "large.bin").write_bytes(b"\0" + TOKEN.encode())
    assert uploads.kept_back(tmp_path) == {} and uploads.told(".", {}) == ""


def test_the_job_tells_and_leaves_them_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Client:
        def submit_job(self, **asked: object) -> str:
            self.asked = asked
            return "job"

    client = Client()
    monkeypatch.setattr(jobs, "client", lambda address, patience: client)
    assert job.main(["recipe=care_grpo_tiny", f"working_dir={folder}", "wait=false"]) == 0
    environment = client.asked["runtime_env"]
    assert isinstance(environment, dict) and "/.env" in environment["excludes"]
    assert "not sent" in (out := capsys.readouterr().out) and ".env (its name)" in out


@pytest.mark.parametrize(
    ("word", "said"),
    [("working_dir=gone", "no such folder"), ("working_dir=https://h/x", "address"), ("run_dir=s3://b/r", "address"),
     ("grace=²", "seconds"), ("grace=-1", "seconds")],
)  # fmt: skip
def test_a_job_with_a_place_that_is_none_is_not_sent(
    word: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "client", None)
    assert job.main(["recipe=care_grpo_tiny", word]) == 2
    assert said in capsys.readouterr().err
