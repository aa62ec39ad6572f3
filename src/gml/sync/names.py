"""Which refs travel and where the other side's are kept. Specified in docs/format.md, "Sharing"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gml.git.transport import Refspec

REGISTRY: Final = "refs/heads/gml/registry"
PROPOSALS: Final = "refs/heads/gml/propose/"
TAGS: Final = "refs/tags/gml/"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one remote's refs, there and here.

    Attributes:
        remote: name of the remote.
        here: local namespace (`gml`).
        there: namespace on the remote (`gml`, or `heads/gml` where only branches are taken).
    """

    remote: str
    here: str = "gml"
    there: str = "gml"

    @property
    def ledger(self) -> str:
        """The ledger on the remote."""
        return f"refs/{self.there}/ledger"

    @property
    def code(self) -> str:
        """The code ref on the remote."""
        return f"refs/{self.there}/code"

    def inbox(self, writer: str, what: str) -> str:
        """Return a ref of a writer's inbox on the remote: its `ledger` or its `code`."""
        return f"refs/{self.there}/inbox/{writer}/{what}"

    @property
    def seen(self) -> str:
        """Prefix of what was last seen of the remote."""
        return f"refs/{self.here}/remotes/{self.remote}/"

    @property
    def seen_registry(self) -> str:
        """The registry branch as last seen."""
        return f"refs/remotes/{self.remote}/gml/registry"

    def conflict(self, what: str, oid: str) -> str:
        """Return the ref that keeps a commit which nothing else holds any more."""
        return f"refs/{self.here}/conflicts/{self.remote}/{what}-{oid[:12]}"

    def refspecs(self) -> list[Refspec]:
        """Return what a fetch brings. Patterns, as git refuses a fetch that names what is not there."""
        return [
            Refspec(f"refs/{self.there}/ledger*", f"{self.seen}ledger*"),
            Refspec(f"refs/{self.there}/code*", f"{self.seen}code*"),
            Refspec(f"refs/{self.there}/inbox/*", f"{self.seen}inbox/*"),
            Refspec(f"{REGISTRY}*", f"{self.seen_registry}*"),
            Refspec(f"{PROPOSALS}*", f"refs/remotes/{self.remote}/gml/propose/*"),
            Refspec(f"{TAGS}*", f"{self.seen}tags/*"),
        ]

    def seen_of(self, name: str) -> str | None:
        """Return where a ref of the remote is kept here, None for one that does not travel."""
        return next((local for spec in self.refspecs() if (local := spec.local(name)) is not None), None)

    def config(self) -> list[tuple[str, str]]:
        """Return the lines of git config with which plain `git fetch` and `git push` do the same."""
        key = f"remote.{self.remote}"
        own = [spec for spec in self.refspecs() if spec.target.startswith(self.seen)]
        fetch = [(f"{key}.fetch", f"+{spec.source}:{spec.target}") for spec in own]
        pushed = [
            "HEAD",
            f"refs/{self.here}/ledger*:refs/{self.there}/ledger*",
            f"refs/{self.here}/code*:refs/{self.there}/code*",
            f"{REGISTRY}*:{REGISTRY}*",
            f"{TAGS}*:{TAGS}*",
        ]
        return fetch + [(f"{key}.push", spec) for spec in pushed]
