"""A server that answers as the hub does for some models: what they are, which files they have, and parts of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit


class _Hub(BaseHTTPRequestHandler):
    folder: Path
    commit: str

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        model = next((part for part in path.split("/") if part and (self.folder / part).is_dir()), "")
        folder = self.folder / model  # data sets have no folder, and no files
        files = sorted(file for file in folder.iterdir() if file.is_file())
        if "/tree/" in path:
            rows = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _digest(f)} for f in files]
            self._send(json.dumps(rows).encode(), body, "application/json")
        elif path.startswith(("/api/models/", "/api/datasets/")):
            siblings = [{"rfilename": file.name} for file in files]
            found = {"id": f"owner/{model}", "modelId": f"owner/{model}", "sha": self.commit, "siblings": siblings}
            self._send(json.dumps(found).encode(), body, "application/json")
        elif "/resolve/" in path and (file := folder / path.rsplit("/", 1)[1]).is_file():
            self._send(file.read_bytes(), body, "application/octet-stream", _digest(file))
        elif path == "/":
            self._send(b"hub", body, "text/plain")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, content: bytes, body: bool, kind: str, etag: str = "") -> None:
        wanted = self.headers.get("Range", "")
        part = content
        if wanted.startswith("bytes="):
            first, _, last = wanted[len("bytes=") :].partition("-")
            part = content[int(first) : int(last) + 1 if last else None]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("X-Repo-Commit", self.commit)
        if etag:
            self.send_header("ETag", f'"{etag}"')
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.end_headers()
        if body:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def hub_of(folder: Path, commit: str) -> Iterator[str]:
    """The address of a hub that has every folder in ``folder`` as a model ``owner/FOLDER`` at ``commit``."""
    handler = type("Hub", (_Hub,), {"folder": folder, "commit": commit})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
