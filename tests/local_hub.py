"""A model hub on this machine: the routes that downloads of data sets and models use, and uploads of models."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "1908d6afbbead072334abe2965f91bd2709910ab"
Answer = tuple[bytes, dict[str, str]]


class Hub:
    """What the hub holds, and what it was asked.

    Attributes:
        files: content by path, by repository.
        requests: paths, in order.
        private: repositories that were made as private ones.
        refuses: whether uploads are forbidden.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.private: set[str] = set()
        self.refuses = False

    def answer(self, path: str) -> Answer | None:
        self.requests.append(path)
        for repo, files in self.files.items():
            for api, resolve in (
                (f"/api/datasets/{repo}/", f"/datasets/{repo}/resolve/"),
                (f"/api/models/{repo}/", f"/{repo}/resolve/"),
            ):
                if path.startswith(f"{api}revision/") and path.split("/")[-1] in ("main", COMMIT):
                    siblings = [{"rfilename": name} for name in files]
                    return _json({"id": repo, "sha": COMMIT, "siblings": siblings})
                if path.startswith(f"{api}tree/{COMMIT}"):
                    return _json(
                        [
                            {"type": "file", "path": name, "size": len(content), "oid": _hash(content)}
                            for name, content in files.items()
                        ]
                    )
                for commit in ("main", COMMIT):
                    if path.startswith(f"{resolve}{commit}/") and (name := path.partition(f"/{commit}/")[2]) in files:
                        return files[name], {"ETag": f'"{_hash(files[name])}"', "X-Repo-Commit": COMMIT}
        return None

    def take(self, path: str, content: bytes) -> Answer | None:
        """Answers what uploads post; all files are small enough to be sent as they are."""
        self.requests.append(path)
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if self.refuses:
            return None
        if path == "/api/repos/create":
            asked = json.loads(content)
            repo = f"{asked['organization']}/{asked['name']}"
            self.files.setdefault(repo, {})
            self.private |= {repo} if asked.get("private") or asked.get("visibility") == "private" else set()
            return _json({"url": f"/{repo}", "id": repo})
        repo = "/".join(path.split("/")[3:5])
        if path.startswith("/api/models/") and repo in self.files and "/preupload/" in path:
            files = json.loads(content)["files"]
            return _json(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        if path.startswith("/api/models/") and repo in self.files and "/commit/" in path:
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    self.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return _json({"success": True, "commitOid": COMMIT, "commitUrl": f"/{repo}/commit/{COMMIT}"})
        return None

    def downloads(self) -> set[str]:
        return {path.partition(f"/resolve/{COMMIT}/")[2] for path in self.requests if "/resolve/" in path}


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _json(value: Any) -> Answer:
    return json.dumps(value).encode(), {"Content-Type": "application/json"}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(hub.answer(unquote(urlsplit(self.path).path)), 404)

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(hub.take(unquote(urlsplit(self.path).path), content), 403 if hub.refuses else 404)

        def _send(self, answer: Answer | None, otherwise: int) -> None:
            content, headers = answer or (b"{}", {"X-Error-Code": "RepoNotFound"} if otherwise == 404 else {})
            self.send_response(200 if answer else otherwise)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def running() -> Iterator[tuple[Hub, str]]:
    """Yields a hub and its address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield hub, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def use(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a hub the one that the hub's client asks, with a cache of its own."""
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(f"{constants}.ENDPOINT", address)
    monkeypatch.setattr(
        f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))
