"""What is asked of a forge and told to it: pull requests, their reviews, a status, one comment.

Only the standard library, only the documented interfaces: GitHub's REST API, GitLab's v4, Gitea's v1
(Forgejo has the same). The forge's answers are facts for `gml.registry.forge` to judge.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import RemoteError, UsageError
from gml.policy.rules import FORGES
from gml.registry.review import MAX_COMMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTEXT: Final = "gml registry"
MARK: Final = "<!-- gml registry -->\n"
_PAGE: Final = 50
_MAX_PAGES: Final = 20
_MAX_ANSWER: Final = 16 * 1024 * 1024
_TIMEOUT: Final = 30


@dataclass(frozen=True, slots=True)
class Pull:
    """An open pull request.

    Attributes:
        number: as the forge counts.
        head: commit that it would merge.
        base: branch that it would be merged into.
        branch: its own branch; None where that is in another repository (a fork).
        ref: full name of the ref that has its head in the repository it goes to.
        payload: the evidence of its reviews, for `gml.registry.forge.read_reviews`.
    """

    number: int
    head: str
    base: str
    branch: str | None
    ref: str
    payload: dict[str, Any]


class Forge:
    """One repository on a forge.

    Args:
        name: `github`, `gitlab` or `gitea`.
        url: of the interface, such as `https://api.github.com`.
        project: `owner/name`; for GitLab also the number.
        token: may read pull requests, write statuses and comments.
    """

    def __init__(self, name: str, url: str, project: str, token: str) -> None:
        if name not in FORGES:
            raise UsageError(f"gml knows no forge {name!r:.40}", hint=f"it knows {', '.join(FORGES)}")
        if not url.startswith(("https://", "http://")):
            raise UsageError(f"{url!r:.100} is not the address of a forge")
        self.name = name
        self._gitlab = name == "gitlab"
        place = f"projects/{urllib.parse.quote(project, safe='')}" if self._gitlab else f"repos/{project}"
        self._url = f"{url.rstrip('/')}/{place}"
        self._token = token

    @classmethod
    def of(cls, name: str, environ: Mapping[str, str]) -> Forge:
        """Return the repository that a CI job of a forge runs for, from the variables that it sets.

        Raises:
            UsageError: one is missing; the message says which.
        """
        if name == "gitlab":
            names = ("CI_API_V4_URL", "CI_PROJECT_ID")
        else:
            names = ("GITHUB_API_URL", "GITHUB_REPOSITORY")
        missing = [key for key in (*names, "GML_FORGE_TOKEN") if not environ.get(key)]
        if missing:
            raise UsageError(f"{missing[0]} is not set", hint=f"a job of {name} sets {', '.join(names)}")
        return cls(name, environ[names[0]], environ[names[1]], environ["GML_FORGE_TOKEN"])

    def open_pulls(self, branch: str) -> list[int]:
        """Return the numbers of the open pull requests into a branch, oldest first.

        Raises:
            RemoteError: the forge does not answer as documented.
        """
        if self._gitlab:
            wanted = urllib.parse.urlencode({"state": "opened", "target_branch": branch})
            found = [each["iid"] for each in self._all(f"merge_requests?{wanted}")]
        else:
            found = [
                each["number"] for each in self._all("pulls?state=open") if each["base"]["ref"] == branch
            ]
        return sorted(int(number) for number in found)

    def pull(self, number: int) -> Pull:
        """Return a pull request with its reviews.

        Raises:
            RemoteError: there is none, or the forge does not answer as documented.
        """
        try:
            return self._merge_request(number) if self._gitlab else self._pull_request(number)
        except (KeyError, TypeError) as error:
            raise RemoteError(f"{self.name} answered without {error}", hint="is this its address?") from None

    def _pull_request(self, number: int) -> Pull:
        pull = self._ask("GET", f"pulls/{number}")
        payload = {
            "forge": self.name, "pull_request": pull, "reviews": self._all(f"pulls/{number}/reviews"),
            "commits": self._all(f"pulls/{number}/commits"),
        }  # fmt: skip
        head, base = pull["head"], pull["base"]
        own = head["repo"] is not None and head["repo"]["full_name"] == base["repo"]["full_name"]
        branch = head["ref"] if own else None
        return Pull(number, head["sha"], base["ref"], branch, f"refs/pull/{number}/head", payload)

    def _merge_request(self, number: int) -> Pull:
        merge = self._ask("GET", f"merge_requests/{number}")
        payload = {
            "forge": self.name, "merge_request": merge,
            "approvals": self._ask("GET", f"merge_requests/{number}/approvals"),
            "settings": self._ask("GET", "approvals"),
        }  # fmt: skip
        own = merge["source_project_id"] == merge["target_project_id"]
        branch = merge["source_branch"] if own else None
        ref = f"refs/merge-requests/{number}/head"
        return Pull(number, merge["sha"], merge["target_branch"], branch, ref, payload)

    def set_status(self, commit: str, state: str, text: str) -> None:
        """Set the status that the branch's protection asks for.

        Args:
            commit: the head of the pull request.
            state: `success`, `pending` or `failure`.
            text: one line.

        Raises:
            RemoteError: the forge refuses.
        """
        said = {"description": text[:140]}
        if self._gitlab:
            said |= {"state": "failed" if state == "failure" else state, "name": CONTEXT}
        else:
            said |= {"state": state, "context": CONTEXT}
        self._ask("POST", f"statuses/{commit}", said)

    def comment(self, number: int, text: str) -> None:
        """Write the one comment of gml, or replace what it said before; cut to what a forge takes.

        Raises:
            RemoteError: the forge refuses.
        """
        body = (MARK + text)[:MAX_COMMENT]
        place = f"merge_requests/{number}/notes" if self._gitlab else f"issues/{number}/comments"
        known = next((c for c in self._all(place) if str(c.get("body", "")).startswith(MARK)), None)
        if known is None:
            self._ask("POST", place, {"body": body})
        elif known["body"] != body:
            one = f"{place}/{known['id']}" if self._gitlab else f"issues/comments/{known['id']}"
            self._ask("PUT" if self._gitlab else "PATCH", one, {"body": body})

    def _all(self, path: str) -> list[Any]:
        found: list[Any] = []
        joint = "&" if "?" in path else "?"
        size = "limit" if self.name == "gitea" else "per_page"
        for page in range(1, _MAX_PAGES + 1):
            answer = self._ask("GET", f"{path}{joint}{size}={_PAGE}&page={page}")
            if not isinstance(answer, list):
                raise RemoteError(f"{self.name} did not answer with a list for {path}")
            found += answer
            if len(answer) < _PAGE:
                return found
        raise RemoteError(f"{self.name} has more than {_PAGE * _MAX_PAGES} entries for {path}")

    def _ask(self, method: str, path: str, data: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(f"{self._url}/{path}", method=method)  # noqa: S310 - checked before
        if self._gitlab:
            request.add_unredirected_header("PRIVATE-TOKEN", self._token)
        else:
            request.add_unredirected_header("Authorization", f"token {self._token}")
        request.add_header("Accept", "application/json")
        request.add_header("User-Agent", "gml")
        if data is not None:
            request.data = json.dumps(data).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 - checked before
                return json.loads(answer.read(_MAX_ANSWER) or b"null")
        except urllib.error.HTTPError as error:
            raise RemoteError(
                f"{self.name} refuses {method} {path} ({error.code} {error.reason})",
                hint="has the token the rights that docs/forges.md lists?",
            ) from None
        except (OSError, ValueError) as error:
            raise RemoteError(f"{self.name} cannot be asked for {path} ({error})") from None
