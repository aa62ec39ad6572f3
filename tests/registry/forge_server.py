"""A forge in this process: answers in the documented shapes of GitHub, GitLab and Gitea, remembers what it is told."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TOKEN = "t0ken"


def user(number: int, **more):
    """An account as GitHub and Gitea show it, cut to what identifies it."""
    return {"login": f"user{number}", "id": number, "type": "User", "site_admin": False} | more


def review(number: int, who: int, commit: str, state: str = "APPROVED", **more):
    return {
        "id": number, "node_id": f"MDE3OlB1{number}", "user": user(who), "body": "", "state": state,
        "commit_id": commit, "submitted_at": "2026-11-24T10:00:00Z", "author_association": "MEMBER",
    } | more  # fmt: skip


class FakeForge:
    """One repository with one open pull request, number 7.

    Args:
        name: `github`, `gitlab` or `gitea`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.head = self.branch = ""
        self.author = 100
        self.fork = False
        self.reviews: list[dict] = []
        self.commits: list[dict] = []
        self.settings = {"reset_approvals_on_push": True, "merge_requests_author_approval": False}
        self.comments: list[dict] = []
        self.statuses: list[tuple[str, dict]] = []
        self.base = "gml/registry"
        self.refuses = ""
        self.url = ""

    def environ(self) -> dict[str, str]:
        if self.name == "gitlab":
            return {"CI_API_V4_URL": self.url, "CI_PROJECT_ID": "42", "GML_FORGE_TOKEN": TOKEN}
        return {"GITHUB_API_URL": self.url, "GITHUB_REPOSITORY": "acme/models", "GML_FORGE_TOKEN": TOKEN}

    def answer(self, method: str, path: str, query: dict, body: dict | None):
        at, size = (
            int(query.get("page", ["1"])[0]),
            int((query.get("per_page") or query.get("limit") or ["50"])[0]),
        )

        def part(items):
            return items[(at - 1) * size : at * size]

        if self.refuses and self.refuses in path:
            return 403, {"message": "Resource not accessible by integration"}
        if self.name == "gitlab":
            return self.gitlab(method, path.removeprefix("/projects/42/"), part, body)
        return self.github(method, path.removeprefix("/repos/acme/models/"), part, body)

    def github(self, method, path, part, body):
        repo = {"full_name": "mallory/models" if self.fork else "acme/models"}
        pull = {
            "number": 7, "state": "open", "user": user(self.author),
            "head": {"ref": self.branch, "sha": self.head, "repo": repo},
            "base": {"ref": self.base, "repo": {"full_name": "acme/models"}},
        }  # fmt: skip
        other = pull | {"number": 8, "base": {"ref": "main", "repo": {"full_name": "acme/models"}}}
        match method, path:
            case "GET", "pulls":
                return 200, part([pull, other])
            case "GET", "pulls/7":
                return 200, pull
            case "GET", "pulls/7/reviews":
                return 200, part(self.reviews)
            case "GET", "pulls/7/commits":
                return 200, part(self.commits)
        return self.common(method, path, part, body, r"issues/7/comments", r"issues/comments/(\d+)")

    def gitlab(self, method, path, part, body):
        merge = {
            "id": 9007, "iid": 7, "state": "opened", "sha": self.head, "author": {"id": self.author, "username": "a"},
            "source_branch": self.branch, "target_branch": self.base, "target_project_id": 42,
            "source_project_id": 43 if self.fork else 42,
        }  # fmt: skip
        match method, path:
            case "GET", "merge_requests":
                return 200, part([merge])
            case "GET", "merge_requests/7":
                return 200, merge
            case "GET", "merge_requests/7/approvals":
                approved = [
                    {"user": {"id": r["user"]["id"], "username": "x", "state": "active"}}
                    for r in self.reviews
                ]
                return 200, {"id": 9007, "iid": 7, "approvals_required": 0, "approved_by": approved}
            case "GET", "approvals":
                return 200, self.settings
        return self.common(
            method, path, part, body, r"merge_requests/7/notes", r"merge_requests/7/notes/(\d+)"
        )

    def common(self, method, path, part, body, comments, comment):
        if method == "POST" and path.startswith("statuses/"):
            self.statuses.append((path.removeprefix("statuses/"), body))
            return 201, body
        if path == comments:
            if method == "GET":
                return 200, part(self.comments)
            self.comments.append({"id": len(self.comments) + 1} | body)
            return 201, self.comments[-1]
        match = re.fullmatch(comment, path)
        if match and method in {"PATCH", "PUT"}:
            self.comments[int(match[1]) - 1] |= body
            return 200, self.comments[int(match[1]) - 1]
        return 404, {"message": "Not Found"}


@contextmanager
def serve(forge: FakeForge):
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self):
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            known = TOKEN in (self.headers.get("PRIVATE-TOKEN") or self.headers.get("Authorization") or "")
            code, said = 401, {"message": "no"}
            if known:
                code, said = forge.answer(self.command, parts.path, parse_qs(parts.query), body)
            data = json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_PUT = handle_any  # noqa: N815

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    forge.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
