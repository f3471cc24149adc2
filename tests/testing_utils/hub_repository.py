"""What the loopback Hub stores: repositories, their commits and references, and the errors it answers with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


class HubError(Exception):
    """An answer other than 200: status, message, and the X-Error-Code that the client turns into an exception."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({} if code is None else {"X-Error-Code": code})
        self.body = {"error": message, **extra}


@dataclass(frozen=True)
class Blob:
    """The content of a file, kept in git or, when `lfs`, as an LFS object with a pointer in git."""

    content: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def in_git(self) -> bytes:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        return pointer.encode() if self.lfs else self.content

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.in_git) + self.in_git).hexdigest()


@dataclass
class Repo:
    """A repository: commits (sha -> path -> blob) and full references (refs/heads/main, refs/tags/v1) to them."""

    kind: str
    id: str
    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    @property
    def page(self) -> str:
        return f"/{self.id}" if self.kind == "models" else f"/{self.kind}/{self.id}"

    def commit(self, ref: str, parent: str | None, title: str, files: dict[str, Blob]) -> str:
        tree = {path: blob.oid for path, blob in sorted(files.items())}
        sha = hashlib.sha1(json.dumps([self.page, parent, title, tree]).encode()).hexdigest()
        self.commits[sha] = files
        self.refs[ref] = sha
        return sha

    def sha(self, revision: str) -> str:
        """The commit that a branch, a tag, a full reference or a sha names."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.refs[ref]
        if revision not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return revision

    def files(self, revision: str) -> dict[str, Blob]:
        return self.commits[self.sha(revision)]

    def entries(self, revision: str) -> Iterator[dict[str, Any]]:
        """Every folder and every file of a tree, as the Hub lists them."""
        files = self.files(revision)
        folders = {path.rsplit("/", depth)[0] for path in files for depth in range(1, path.count("/") + 1)}
        for path in sorted(folders):
            yield {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
        for path, blob in sorted(files.items()):
            entry = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.oid}
            lfs = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.in_git)}
            yield entry | ({"lfs": lfs} if blob.lfs else {})
