"""A stand-in for the Hugging Face Hub on this machine: as much of its HTTP API as publishing and
loading a model take. Small files come with the commit, safetensors by Git LFS before it."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import huggingface_hub.constants
import pytest


class Hub(ThreadingHTTPServer):
    """Holds repositories: name -> commits, oldest first, of (their 40 digits, path -> content)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.large: dict[str, bytes] = {}  # by sha256
        self.asked: list[str] = []  # method and path of every request

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Add a commit with these files beside those of the one before; return its digits."""
        commits = self.repositories.setdefault(name, [])
        whole = (commits[-1][1] if commits else {}) | files
        digits = hashlib.sha1(repr((len(commits), whole)).encode()).hexdigest()
        commits.append((digits, whole))
        return digits


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments):
        pass

    def answer(self, content, status: int = 200, **headers: str):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code: str):
        self.answer({"error": "not found"}, 404, X_Error_Code=code, X_Error_Message="not found")

    def do_POST(self):
        path = self.path.partition("?")[0]
        self.server.asked.append(f"POST {path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != "Bearer of a token":
            self.answer({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(name, [])
            self.answer({"url": f"{self.server.address}/{name}"})
        elif "/preupload/" in path:
            files = [
                {"path": x["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if x["path"].endswith(".safetensors") else "regular"}
                for x in json.loads(body)["files"]
            ]  # fmt: skip
            self.answer({"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            place = f"{self.server.address}/large"
            objects = [
                x | {"actions": {"upload": {"href": f"{place}/{x['oid']}"}}}
                for x in json.loads(body)["objects"]
            ]
            self.answer({"objects": objects}, Content_Type="application/vnd.git-lfs+json")
        else:
            self.add_commit(path.removeprefix("/api/models/").partition("/commit/")[0], body)

    def add_commit(self, name: str, body: bytes):
        files = {}
        for line in map(json.loads, body.splitlines()):
            entry = line["value"]
            if line["key"] == "file":
                files[entry["path"]] = base64.b64decode(entry["content"])
            elif line["key"] == "lfsFile":
                files[entry["path"]] = self.server.large[entry["oid"]]
        digits = self.server.commit(name, files)
        url = f"{self.server.address}/{name}/commit/{digits}"
        self.answer({"success": True, "commitOid": digits, "commitUrl": url})

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.large[self.path.rpartition("/")[2]] = content
        self.answer(b"")

    def do_GET(self):
        path = unquote(self.path.partition("?")[0])
        self.server.asked.append(f"{self.command} {path}")
        is_api = path.startswith("/api/models/")
        owner, name, kind, revision, *rest = (
            *path.removeprefix("/api/models/").lstrip("/").split("/", 4), *[""] * 2
        )  # fmt: skip
        commits = self.server.repositories.get(f"{owner}/{name}")
        if not commits:
            return self.missing("RepoNotFound")
        found = [x for x in commits if x[0] == revision] or commits[-1:] * (revision == "main")
        if not found:
            return self.missing("RevisionNotFound")
        digits, files = found[-1]
        if is_api and kind == "revision":
            return self.answer({"id": f"{owner}/{name}", "sha": digits, "siblings": []})
        if is_api:
            return self.answer(
                [{"type": "file", "path": k, "size": len(x), "oid": hashlib.sha1(x).hexdigest()}
                 for k, x in files.items()]
            )  # fmt: skip
        content = files[rest[0]]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self.answer(content, ETag=etag, X_Repo_Commit=digits)

    do_HEAD = do_GET


@contextmanager
def stand_in(cache: Path) -> Iterator[Hub]:
    """Let huggingface_hub talk to a stand-in, with a token, and keep what it gets in ``cache``."""
    hub = Hub()
    constants = huggingface_hub.constants
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", "of a token")
        thread = Thread(target=hub.serve_forever, args=[0.01])
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            hub.server_close()
            thread.join()
