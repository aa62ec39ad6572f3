"""The transport over the git command: credential helpers, ssh, proxies and hooks work as users know them."""

from __future__ import annotations

import base64
import re
import subprocess
from typing import TYPE_CHECKING, Final

from gml.domain.errors import RemoteError, StorageError
from gml.git.transport import (
    LOCKED,
    Outcome,
    Refspec,
    State,
    Update,
    public,
    remarks,
    state_of,
    tokens,
    trouble,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.git.store import FileStore

# Variables of git that speak of another repository than the one that is asked for.
_PLACES: Final = (
    "GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE",
    "GIT_QUARANTINE_PATH", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE",
)  # fmt: skip
_SETTINGS: Final = (
    "-c", "protocol.version=2",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "fetch.writeCommitGraph=false",
    # One durable pack instead of a file, and an fsync, for each object.
    "-c", "fetch.unpackLimit=1",
    "-c", "core.fsync=pack,pack-metadata,loose-object,reference",
    "-c", "push.followTags=false",
    "-c", "advice.pushFetchFirst=false",
    # A peer that says nothing for a minute is gone.
    "-c", "http.lowSpeedLimit=1",
    "-c", "http.lowSpeedTime=60",
)  # fmt: skip


class GitTransport:
    """`Transport` over the git command.

    Args:
        store: the local repository.
        git: path of the git command.
        remote: name of a configured remote, or a URL.
        interactive: git may ask for a password on the terminal.
        timeout: seconds that one call may take, None for no limit.
    """

    def __init__(
        self,
        store: FileStore,
        git: str,
        remote: str,
        *,
        interactive: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._store = store
        self._git = git
        self._remote = remote
        self._timeout = timeout
        self.received = 0
        self.sent = 0
        address = store.config(f"remote.{remote}.url") or remote
        self._url = public(address)
        self._environ = self._environment(address, interactive=interactive)

    def _environment(self, address: str, *, interactive: bool) -> dict[str, str]:
        environ = {key: value for key, value in self._store.environ.items() if key not in _PLACES}
        environ |= {
            "GIT_DIR": str(self._store.location.git_dir),
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "LC_ALL": "C",
        }
        if self._store.location.worktree:
            environ["GIT_WORK_TREE"] = str(self._store.location.worktree)
        if not interactive:
            environ.setdefault("GIT_TERMINAL_PROMPT", "0")
            if "GIT_SSH_COMMAND" not in environ and "GIT_SSH" not in environ:
                ssh = self._store.config("core.sshCommand")
                environ["GIT_SSH_COMMAND"] = f"{ssh or 'ssh'} -oBatchMode=yes"
        known = tokens(environ)
        if known and address.lower().startswith(("https://", "http://")):
            # In the environment, not in argv, where every user of the machine could read it.
            secret = base64.b64encode(":".join(known).encode()).decode()
            count = int(environ.get("GIT_CONFIG_COUNT") or 0)
            environ |= {
                "GIT_CONFIG_COUNT": str(count + 1),
                f"GIT_CONFIG_KEY_{count}": f"http.{public(address)}.extraHeader",
                f"GIT_CONFIG_VALUE_{count}": f"Authorization: Basic {secret}",
            }
        return environ

    @property
    def url(self) -> str:
        """See `Transport.url`."""
        return self._url

    def _run(self, args: Sequence[str], data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        where = self._store.location
        try:
            return subprocess.run(
                [self._git, *_SETTINGS, *args],
                input=data,
                stdin=subprocess.DEVNULL if data is None else None,
                capture_output=True,
                check=False,
                cwd=where.worktree or where.git_dir,
                env=self._environ,
                timeout=self._timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise RemoteError(
                f"{self._url} did not answer in {self._timeout:g} s", hint="check the network and try again"
            ) from error
        except OSError as error:
            raise RemoteError(
                f"cannot run git: {error.strerror}", hint="check the installation of git"
            ) from error

    def refs(self, prefixes: Sequence[str]) -> dict[str, str]:
        """See `Transport.refs`."""
        patterns = [f"{prefix}*" for prefix in prefixes]
        done = self._run(["ls-remote", "--quiet", "--", self._remote, *patterns])
        if done.returncode:
            raise trouble(self._url, _text(done.stderr))
        found: dict[str, str] = {}
        for line in _text(done.stdout).splitlines():
            oid, _, name = line.partition("\t")
            if name.startswith(tuple(prefixes)) and not name.endswith("^{}"):
                found[name] = oid
        return dict(sorted(found.items()))

    def fetch(
        self,
        refspecs: Sequence[Refspec],
        *,
        prune: bool = False,
        depth: int | None = None,
        blobless: bool = False,
    ) -> None:
        """See `Transport.fetch`."""
        args = [
            "fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
            "--refmap=", "--prune" if prune else "--no-prune", "--no-prune-tags", "--update-shallow",
        ]  # fmt: skip
        if depth is not None:
            args.append(f"--depth={depth}")
        # A clone without files would leave them out of the ledger as well.
        args.append("--filter=blob:none" if blobless else "--no-filter")
        specs = [f"+{spec.source}:{spec.target}" for spec in self._existing(refspecs)]
        if not specs:
            return
        self._fetch([*args, "--", self._remote, *specs])

    def fetch_objects(self, oids: Sequence[str]) -> None:
        """See `Transport.fetch_objects`."""
        # Said to have its directories, the remote would leave out the very objects that are asked for.
        args = ["-c", "fetch.negotiationAlgorithm=noop", "fetch", "--progress", "--no-tags"]
        args += ["--no-write-fetch-head", "--no-recurse-submodules"]
        names = "".join(f"{oid}\n" for oid in oids).encode()
        self._fetch([*args, "--filter=blob:none", "--stdin", "--", self._remote], names)

    def _fetch(self, args: Sequence[str], data: bytes | None = None) -> None:
        done = self._run(args, data)
        said = _text(done.stderr)
        self.received = _transferred(said)
        # With --depth git says nothing and ends with 1 when no ref of the remote is meant.
        if done.returncode and not (done.returncode == 1 and not said.strip()):
            if "No space left" in said and "remote:" not in said:
                raise StorageError(
                    f"cannot store what {self._url} sends: no space left on the disk", hint="free some space"
                )
            raise trouble(self._url, said)

    def _existing(self, refspecs: Sequence[Refspec]) -> list[Refspec]:
        """Leave out exact names that the remote lacks: git would refuse the whole fetch for one of them."""
        exact = [spec.source for spec in refspecs if not spec.source.endswith("*")]
        if not exact:
            return list(refspecs)
        there = self.refs(exact)
        return [spec for spec in refspecs if spec.source.endswith("*") or spec.source in there]

    def push(self, updates: Sequence[Update], *, atomic: bool = False) -> list[Outcome]:
        """See `Transport.push`."""
        if not updates:
            return []
        leases = [f"--force-with-lease={u.name}:{u.expected or ''}" for u in updates]
        specs = [f"{u.new or ''}:{u.name}" for u in updates]
        args = ["push", "--porcelain", "--progress", "--no-follow-tags", "--recurse-submodules=no"]
        whole = ["--atomic"] if atomic else ["--no-atomic"]
        done = self._run([*args, *whole, *leases, "--", self._remote, *specs])
        said = _text(done.stderr)
        self.sent = _transferred(said)
        if atomic and "does not support --atomic" in said:
            return self.push(updates)
        known = _statuses(_text(done.stdout), said)
        if done.returncode and not known:
            if "failed to push some refs" not in said and not _began(said):
                raise trouble(self._url, said)
            return [Outcome(u.name, "unknown", trouble(self._url, said).message) for u in updates]
        lost: State = "unknown" if done.returncode else "ok"
        return [known.get(u.name) or Outcome(u.name, lost) for u in updates]


def _began(said: str) -> bool:
    """Whether a failed push may have reached the remote: then only looking tells."""
    return any(
        sign in said
        for sign in (
            "unexpected disconnect",
            "hung up",
            "RPC failed",
            "send-pack",
            "sideband",
        )
    ) and not any(
        sign in said for sign in ("Could not read from remote repository", "not found", "Authentication")
    )


def _statuses(stdout: str, stderr: str) -> dict[str, Outcome]:
    """Read `git push --porcelain`: flag, from:to, summary with the reason in brackets."""
    found: dict[str, Outcome] = {}
    for line in stdout.splitlines():
        flag, _, rest = line.partition("\t")
        names, tab, summary = rest.partition("\t")
        if not tab or len(flag) != 1:
            continue
        name = names.rpartition(":")[2]
        if flag != "!":
            found[name] = Outcome(name, "ok")
            continue
        reason = summary.partition("(")[2].removesuffix(")") or summary
        state = state_of(reason)
        words = remarks(stderr) if state in {"refused", "protected", "failed"} or LOCKED in stderr else ""
        if state == "failed" and "unpack" in reason:
            told = [line for line in stderr.splitlines() if line.startswith(("error:", "fatal:"))]
            words = words or (told[0].partition(": ")[2] if told else "")
        found[name] = Outcome(name, state, f"{reason}: {words}" if words else reason)
    return found


_UNITS: Final = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TRANSFERRED: Final = re.compile(
    r"(?:Receiving|Unpacking|Writing) objects: 100% \(\d+/\d+\), ([\d.]+) (bytes|KiB|MiB|GiB)"
)


def _transferred(said: str) -> int:
    """Read from git's progress how many bytes of objects went over the wire."""
    found = _TRANSFERRED.findall(said)
    return int(float(found[-1][0]) * _UNITS[found[-1][1]]) if found else 0


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r", "\n")
