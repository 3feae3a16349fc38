"""A small stand-in for the Hugging Face Hub: the endpoints that huggingface_hub asks for files."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse


@dataclass
class Repository:
    """`revisions` maps branch or tag to a commit, `commits` a commit to file name -> bytes."""

    revisions: dict[str, str]
    commits: dict[str, dict[str, bytes]]
    token: str | None = None  # needed to see it at all
    gated: bool = False


@dataclass
class Hub:
    """Serves repositories on a local port and remembers what was asked."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    broken: bool = False

    def __enter__(self) -> Hub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def add(self, name: str, folder: Path, commit: str = "a" * 40, **options: object) -> Repository:
        """Publish the files of a folder as branch main."""
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        repository = Repository({"main": commit}, {commit: files}, **options)  # type: ignore[arg-type]
        self.repositories[name] = repository
        return repository

    def asked_for(self) -> list[str]:
        """Names of the files whose contents were downloaded."""
        return [
            path.rsplit("/", 1)[1]
            for method, path, _ in self.requests
            if method == "GET" and "/resolve/" in path
        ]

    def answer(self, handler: BaseHTTPRequestHandler, body: bool) -> None:
        path = unquote(urlparse(handler.path).path)
        token = handler.headers.get("Authorization")
        self.requests.append((handler.command, path, token))
        if self.broken:
            return self._send(handler, 503, {}, b"down", body)
        name, separator, rest = path.strip("/").partition("/resolve/")
        repository = self.repositories.get(name)
        denied = repository is not None and repository.token not in (
            None,
            (token or "").removeprefix("Bearer "),
        )
        if not separator or repository is None or (denied and not repository.gated):
            # The real Hub hides private repositories from strangers the same way.
            headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            return self._send(handler, 404 if token else 401, headers, b"", body)
        if denied:
            headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
            return self._send(handler, 403 if token else 401, headers, b"", body)
        revision, _, file = rest.partition("/")
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            headers = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}
            return self._send(handler, 404, headers, b"", body)
        content = repository.commits[commit].get(file)
        if content is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            return self._send(handler, 404, headers, b"", body)
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        return self._send(handler, 200, headers, content, body)

    @staticmethod
    def _send(
        handler: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        content: bytes,
        body: bool,
    ) -> None:
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if body:
            handler.wfile.write(content)
