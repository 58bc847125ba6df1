"""Bare repositories over smart HTTP with a login, by the program git itself; and forges' APIs for pull requests."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

USERNAME, TOKEN = "bot", "the-token-of-the-bot"


class Forge:
    """A server: ``url`` of its one repository, what it was asked, and the open pull requests.

    ``checks`` are what main requires, ``merging`` the numbers of those that it will merge by itself, ``refuses`` why it
    merges none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = ""
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.open: list[dict[str, Any]] = []
        self.checks: list[str] = []
        self.merging: list[int] = []
        self.refuses = ""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, Any]:
        """As the documentation of the three says."""
        self.asked.append((method, path, body))
        github = path in ("/api/v3/repos/me/homelab/pulls", "/api/v1/repos/me/homelab/pulls")
        if guard := self._guard(path):
            return 200, guard if guard != {"none": True} else []
        if path == "/api/graphql":
            return 200, self._merges(int(body["variables"]["id"].removeprefix("node-")))
        if method == "POST" and path.endswith("/merge"):
            refused = self._merges(int(path.split("/")[-2])).get("errors")
            return (405, {"message": self.refuses}) if refused else (201, {})
        gitlab = path == "/api/v4/projects/me%2Fhomelab/merge_requests"
        if method == "GET" and github:
            return 200, [item for item in self.open if query.get("head", [""])[0] in ("", f"me:{item['head']['ref']}")]
        if method == "GET" and gitlab:
            return 200, [item for item in self.open if item["source_branch"] == query["source_branch"][0]]
        if method == "POST" and github:
            number = len(self.open) + 1
            self.open.append(
                {
                    "number": number,
                    "node_id": f"node-{number}",
                    "head": {"ref": body["head"]},
                    "html_url": f"{self.url}/pulls/{number}",
                }
            )
            return 201, self.open[-1]
        if method == "POST" and gitlab:
            number = len(self.open) + 1
            found = {"iid": number, "source_branch": body["source_branch"], "web_url": f"{self.url}/-/{number}"}
            self.open.append(found)
            return 201, found
        if method in ("PATCH", "PUT"):
            number = int(path.rpartition("/")[2])
            return 200, self.open[number - 1]
        return 404, {"message": "not found"}

    def _guard(self, path: str) -> Any:
        """What the APIs of GitHub and Gitea say of main."""
        if path.endswith("/rules/branches/main"):
            return {"none": True}
        if path.endswith("/branches/main"):
            required = {"required_status_checks": {"contexts": self.checks}}
            gitea = {"enable_status_check": bool(self.checks), "status_check_contexts": self.checks}
            return {"protected": bool(self.checks), "protection": required, **gitea}
        return None

    def _merges(self, number: int) -> dict[str, Any]:
        if self.refuses:
            return {"errors": [{"message": self.refuses}]}
        self.merging.append(number)
        return {"data": {}}


@contextmanager
def serving(root: Path) -> Iterator[Forge]:
    """The server, on loopback, of the bare repository ``root/me/homelab.git``."""
    forge = Forge(root)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            url = urlsplit(self.path)
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if url.path.startswith("/api/"):
                if TOKEN not in f"{self.headers.get('Authorization')} {self.headers.get('PRIVATE-TOKEN')}":
                    return self.reply(401, {}, b"{}")
                status, content = forge.answer(self.command, url.path, parse_qs(url.query), json.loads(body or "{}"))
                return self.reply(status, {"Content-Type": "application/json"}, json.dumps(content).encode())
            login = base64.b64encode(f"{USERNAME}:{TOKEN}".encode()).decode()
            if self.headers.get("Authorization") != f"Basic {login}":
                return self.reply(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            env = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": unquote(url.path),
                "QUERY_STRING": url.query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REMOTE_USER": USERNAME,
            }
            command = ["git", "-c", "safe.directory=*", "http-backend"]
            out = subprocess.run(command, input=body, env=env, capture_output=True, check=False).stdout
            head, _, content = out.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            return self.reply(int(headers.pop("Status", "200").split()[0]), headers, content)

        def reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_PUT = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        forge.url = f"http://127.0.0.1:{server.server_address[1]}/me/homelab.git"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield forge
        finally:
            server.shutdown()
            thread.join()
