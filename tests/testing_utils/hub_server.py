"""A loopback Hub: an HTTP server on 127.0.0.1 that answers huggingface_hub's real client.

It keeps repositories in memory as git does (commits, branches, tags, LFS objects) and speaks the plain LFS protocol,
not xet. It shows that the client is content with our reading of the Hub's API; not that the Hub itself agrees.

huggingface_hub reads its environment when it is imported, so the client runs in a fresh process:

    with HubServer() as server:
        printed = run_client("import huggingface_hub; ...", server, tmp_path)
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from .fresh import run_python
from .hub_repository import Blob, HubError, Repo

USER = "tester"
TOKEN = "hf_loopback_token"
API = r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)"
PAGE = r"/(?P<kind>datasets/)?(?P<id>[^/]+/[^/]+)"
LFS = r"/lfs/(?P<kind>\w+)/(?P<id>[^/]+/[^/]+)/(?P<oid>\w+)"


def hub_environment(
    server: HubServer, home: Path, *, token: str | None = TOKEN, offline: bool = False
) -> dict[str, str]:
    """Environment of a process whose huggingface_hub talks to `server` and keeps its cache under `home`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "NO_PROXY": "127.0.0.1",
    }
    return environment if token is None else environment | {"HF_TOKEN": token}


def run_client(script: str, server: HubServer, home: Path, *arguments: str, **environment: Any) -> str:
    """Run a script in a fresh process whose Hub is `server` (options: `hub_environment`); its standard output."""
    done = run_python("-c", script, *arguments, environment=hub_environment(server, home, **environment))
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Request:
    """What a route is given: the path's named parts, the query, the body, and whether the token came with it."""

    parts: dict[str, str]
    query: dict[str, str]
    body: bytes
    authorized: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def named(self) -> tuple[str, str]:
        """(kind, id) of the repository that the body of a create or delete names."""
        return f"{self.json.get('type') or 'model'}s", f"{self.json.get('organization') or USER}/{self.json['name']}"


@dataclass
class File:
    """An answer that is a file and not JSON."""

    content: bytes
    headers: dict[str, str]


Route = Callable[["HubServer", Request], Any]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


def route(method: str, pattern: str) -> Callable[[Route], Route]:
    def register(handler: Route) -> Route:
        ROUTES.append((method, re.compile(pattern), handler))
        return handler

    return register


class HubServer:
    """The server, as a context manager. `requests` logs every (method, path) in the order of arrival."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def files(self, repo_id: str, revision: str = "main", kind: str = "models") -> dict[str, bytes]:
        """Path -> content of everything in a repository, `.gitattributes` left out."""
        files = self.repos[kind, repo_id].files(revision)
        return {path: blob.content for path, blob in files.items() if path != ".gitattributes"}

    def repo(self, request: Request) -> Repo:
        repo = self.repos.get(((request.parts["kind"] or "models").rstrip("/"), request.parts["id"]))
        if repo is None or (repo.private and not request.authorized):
            raise HubError(404 if request.authorized else 401, "Repository not found", "RepoNotFound")
        return repo

    @route("GET", "/api/whoami-v2")
    def whoami(self, request: Request) -> Any:
        if not request.authorized:
            raise HubError(401, "Invalid username or password.")
        return {"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}}

    @route("POST", "/api/repos/create")
    def create_repo(self, request: Request) -> Any:
        if request.named in self.repos:
            raise HubError(409, "You already created this repo", url=self.url + self.repos[request.named].page)
        repo = Repo(*request.named, private=request.json.get("visibility") == "private")
        repo.commit("refs/heads/main", None, "initial commit", {".gitattributes": Blob(b"*.safetensors filter=lfs\n")})
        self.repos[request.named] = repo
        return {"url": self.url + repo.page}

    @route("DELETE", "/api/repos/delete")
    def delete_repo(self, request: Request) -> Any:
        if self.repos.pop(request.named, None) is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return {}

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self, request: Request) -> Any:
        front_matter = re.match(r"\s*---\n(.*?)\n---", request.json["content"], re.DOTALL)
        try:
            metadata = yaml.safe_load(front_matter[1]) if front_matter else {}
            for result in [result for model in metadata.get("model-index", []) for result in model["results"]]:
                _ = result["task"]["type"], result["dataset"]["type"], result["dataset"]["name"]
                _ = [(metric["type"], metric["value"]) for metric in result["metrics"]]
        except (yaml.YAMLError, KeyError, AttributeError) as error:
            raise HubError(400, "Invalid metadata", warnings=[], errors=[{"message": repr(error)}]) from error
        return {"warnings": [] if front_matter else [{"message": "empty or missing yaml metadata"}], "errors": []}

    @route("GET", f"{API}(/revision/(?P<revision>[^/]+))?")
    def repo_info(self, request: Request) -> Any:
        repo, revision = self.repo(request), request.parts["revision"] or "main"
        siblings = [{"rfilename": path, "size": len(blob.content)} for path, blob in repo.files(revision).items()]
        return {"id": repo.id, "sha": repo.sha(revision), "private": repo.private, "siblings": siblings}

    @route("POST", f"{API}/preupload/(?P<revision>[^/]+)")
    def preupload(self, request: Request) -> Any:
        present = self.repo(request).files(request.parts["revision"])

        def answer(file: dict[str, Any]) -> dict[str, Any]:
            # The Hub keeps binary files out of git; git itself calls a file binary that has a NUL near its start.
            mode = "lfs" if b"\0" in base64.b64decode(file["sample"]) else "regular"
            blob = present.get(file["path"])
            oid = None if blob is None else blob.sha256 if blob.lfs else blob.oid
            return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}

        return {"files": [answer(file) for file in request.json["files"]]}

    @route("POST", PAGE + r"\.git/info/lfs/objects/batch")
    def lfs_batch(self, request: Request) -> Any:
        repo = self.repo(request)

        def answer(wanted: dict[str, Any]) -> dict[str, Any]:
            upload = f"{self.url}/lfs/{repo.kind}/{repo.id}/{wanted['oid']}"
            actions = {"upload": {"href": upload}, "verify": {"href": f"{upload}/verify"}}
            return wanted if wanted["oid"] in repo.objects else wanted | {"actions": actions}

        return {"transfer": "basic", "objects": [answer(wanted) for wanted in request.json["objects"]]}

    @route("PUT", LFS)
    def lfs_put(self, request: Request) -> Any:
        if hashlib.sha256(request.body).hexdigest() != request.parts["oid"]:
            raise HubError(400, "the content does not have the announced sha256")
        self.repos[request.parts["kind"], request.parts["id"]].objects[request.parts["oid"]] = request.body
        return {}

    @route("POST", f"{LFS}/verify")
    def lfs_verify(self, request: Request) -> Any:
        if len(self.repo(request).objects.get(request.parts["oid"], b"")) != request.json["size"]:
            raise HubError(404, "the object was not uploaded whole")
        return {}

    @route("POST", f"{API}/commit/(?P<revision>[^/]+)")
    def commit(self, request: Request) -> Any:
        repo, create_pr = self.repo(request), "create_pr" in request.query
        header, *operations = [json.loads(line) for line in request.body.splitlines()]
        parent = repo.sha(request.parts["revision"])
        if header["value"].get("parentCommit") not in (None, parent):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.files(parent))
        for key, value in ((operation["key"], operation["value"]) for operation in operations):
            path = value["path"].rstrip("/")
            if key == "file":
                files[path] = Blob(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                files[path] = Blob(repo.objects[value["oid"]], lfs=True)
            else:
                kept = {name: blob for name, blob in files.items() if name != path and not name.startswith(f"{path}/")}
                if kept == files:
                    raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                files = kept
        number = 1 + sum(ref.startswith("refs/pr/") for ref in repo.refs)
        ref = f"refs/pr/{number}" if create_pr else f"refs/heads/{request.parts['revision']}"
        sha, page = repo.commit(ref, parent, header["value"]["summary"], files), self.url + repo.page
        reply = {"commitUrl": f"{page}/commit/{sha}", "commitOid": sha}
        return reply | ({"pullRequestUrl": f"{page}/discussions/{number}"} if create_pr else {})

    @route("GET", f"{API}/tree/(?P<revision>[^/]+)(/(?P<path>.+))?")
    def tree(self, request: Request) -> Any:
        folder = f"{request.parts['path']}/" if request.parts["path"] else ""
        entries = list(self.repo(request).entries(request.parts["revision"]))
        inside = [entry for entry in entries if entry["path"].startswith(folder)]
        if not inside:
            raise HubError(404, f"{folder} does not exist", "EntryNotFound")
        recursive = request.query.get("recursive", "false").lower() == "true"
        return [entry for entry in inside if recursive or "/" not in entry["path"].removeprefix(folder)]

    @route("POST", f"{API}/paths-info/(?P<revision>[^/]+)")
    def paths_info(self, request: Request) -> Any:
        wanted = parse_qs(request.body.decode())["paths"]
        return [entry for entry in self.repo(request).entries(request.parts["revision"]) if entry["path"] in wanted]

    @route("GET", f"{API}/refs")
    def list_refs(self, request: Request) -> Any:
        prefixes = {
            "branches": "refs/heads/",
            "tags": "refs/tags/",
            "pullRequests": "refs/pr/",
            "converts": "refs/convert/",
        }
        refs = self.repo(request).refs.items()
        return {
            kind: [
                {"name": r.removeprefix(start), "ref": r, "targetCommit": sha}
                for r, sha in refs
                if r.startswith(start)
            ]
            for kind, start in prefixes.items()
        }

    @route("POST", f"{API}/(?P<what>branch|tag)/(?P<name>[^/]+)")
    def create_ref(self, request: Request) -> Any:
        repo, name = self.repo(request), request.parts["name"]
        ref, start = f"refs/heads/{name}", request.json.get("startingPoint", "main")
        if request.parts["what"] == "tag":  # here the path names the commit and the body the tag
            ref, start = f"refs/tags/{request.json['tag']}", name
        if ref in repo.refs:
            raise HubError(409, f"Reference {ref} already exists")
        repo.refs[ref] = repo.sha(start)
        return {}

    @route("DELETE", f"{API}/(?P<what>branch|tag)/(?P<name>[^/]+)")
    def delete_ref(self, request: Request) -> Any:
        ref = f"refs/{'heads' if request.parts['what'] == 'branch' else 'tags'}/{request.parts['name']}"
        if self.repo(request).refs.pop(ref, None) is None:
            raise HubError(404, f"{ref} does not exist", "RevisionNotFound")
        return {}

    @route("GET", f"{PAGE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def resolve(self, request: Request) -> Any:
        repo = self.repo(request)
        blob = repo.files(request.parts["revision"]).get(request.parts["path"])
        if blob is None:
            raise HubError(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": repo.sha(request.parts["revision"]), "ETag": f'"{blob.oid}"'}
        linked = {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
        return File(blob.content, headers | (linked if blob.lfs else {}))


class Handler(BaseHTTPRequestHandler):
    """Reads a request, finds its route and writes the answer."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        with self.hub.lock:
            self.hub.requests.append((self.command, url.path))
            try:
                result = self.dispatch(url.path, query, body)
            except HubError as error:
                self.reply(error.status, json.dumps(error.body).encode(), error.headers)
                return
        reply = result if isinstance(result, File) else File(json.dumps(result).encode(), {})
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part is None:
            self.reply(200, reply.content, reply.headers)
        else:
            size = len(reply.content)
            first, last = int(part[1]), int(part[2] or size - 1)
            range_header = {"Content-Range": f"bytes {first}-{last}/{size}"}
            self.reply(206, reply.content[first : last + 1], reply.headers | range_header)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def dispatch(self, path: str, query: dict[str, str], body: bytes) -> Any:
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        method = "GET" if self.command == "HEAD" else self.command
        for route_method, pattern, handler in ROUTES:
            match = pattern.fullmatch(path)
            if route_method != method or match is None:
                continue
            # What writes needs the token, save the link that the LFS batch gave out; a listing may come by POST.
            if method in ("POST", "DELETE") and not authorized and "/paths-info/" not in path:
                raise HubError(401, "Invalid username or password.")
            parts = {name: unquote(part) if part else part for name, part in match.groupdict().items()}
            return handler(self.hub, Request(parts, query, body, authorized))
        raise HubError(404, f"no such endpoint: {method} {path}")

    def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on the tests' output; `HubServer.requests` is the log."""
