"""What git's hooks call, and installing the shims that call it. Whatever goes wrong, the answer is no."""

from __future__ import annotations

import os
import signal
import stat
import threading
from typing import TYPE_CHECKING, Final

from gml.domain.errors import ConflictError, GmlError, StorageError, UsageError
from gml.fs import write_atomic
from gml.git.discover import open_store
from gml.policy.errors import RefusedError
from gml.registry.gate import Gate, parse_updates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import FrameType

    from gml.git.store import FileStore

MARK: Final = "# gml"
SERVER: Final = ("pre-receive", "post-receive")
CLIENT: Final = ("pre-push",)
TIMEOUT: Final = 60
_ZERO: Final = "0" * 40


def shim(name: str) -> str:
    """Return the text of a hook: it runs gml, and refuses where gml is missing."""
    lines = [
        "#!/bin/sh",
        f"{MARK}: installed by `gml hooks install`; the rules are in the registry, not here",
        f'exec "${{GML:-gml}}" hooks run {name} "$@"',
    ]
    return "\n".join(lines) + "\n"


def install(store: FileStore, hooks: tuple[str, ...], *, force: bool = False) -> list[Path]:
    """Write shims into the hooks directory of a repository.

    Args:
        store: the repository.
        hooks: names of hooks.
        force: keep a hook of somebody else as `<name>.before-gml`, which runs first, instead of refusing.

    Returns:
        The files that were written.

    Raises:
        ConflictError: there is a hook already that is not ours.
    """
    configured = store.config("core.hooksPath")
    base = store.location.common_dir
    directory = base / (configured or "hooks")
    written = []
    for name in hooks:
        path = directory / name
        text = shim(name)
        if path.exists() and MARK not in path.read_text("utf-8", "replace"):
            if not force:
                raise ConflictError(
                    f"{path} is there already",
                    hint=f"call `gml hooks run {name}` from it; --force keeps it as {name}.before-gml",
                )
            path.rename(path.with_name(f"{name}.before-gml"))
        before = path.with_name(f"{name}.before-gml")
        if before.exists():
            text = text.replace("exec ", _chained(name), 1)
        write_atomic(path, text.encode())
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        written.append(path)
    return written


def _chained(name: str) -> str:
    """Return lines that run the hook that was there before with the same input, and stop where it refuses."""
    return (
        "input=$(cat) || exit 1\n"
        f'printf "%s\\n" "$input" | "$(dirname "$0")/{name}.before-gml" "$@" || exit 1\n'
        'printf "%s\\n" "$input" | exec '
    )


def harden(store: FileStore) -> dict[str, str]:
    """Set what git itself should refuse on a server; returns what was set."""
    wanted = {
        "receive.fsckObjects": "true",
        "transfer.fsckObjects": "true",
        "core.logAllRefUpdates": "true",
    }
    for key, value in wanted.items():
        store.set_config(key, value)
    return wanted


def run(name: str, read: Callable[[], str], environ: Mapping[str, str], args: tuple[str, ...] = ()) -> str:
    """Run a hook and return what is worth telling.

    Args:
        name: of the hook.
        read: returns the standard input.
        environ: of the process, as git made it.
        args: of the hook.

    Raises:
        RefusedError: the push is not allowed, or anything else went wrong.
    """
    if name not in {*SERVER, *CLIENT}:
        raise UsageError(f"gml has no hook {name!r}", hint=f"it has {', '.join((*SERVER, *CLIENT))}")
    seconds = int(environ.get("GML_HOOK_TIMEOUT") or TIMEOUT)
    with _deadline(seconds):
        try:
            return _HOOKS[name](read, environ, args)
        except GmlError:
            raise
        except Exception as error:
            # A gate that has lost its head must not open.
            raise RefusedError(
                "crash",
                f"the {name} hook failed ({type(error).__name__}: {error})",
                hint="nothing was accepted",
            ) from error


def _open(environ: Mapping[str, str]) -> FileStore:
    given = dict(environ)
    given.setdefault("GIT_DIR", ".")
    return open_store(environ=given)


def _namespace(store: FileStore) -> str:
    return store.config("gml.namespace") or "gml"


def _pre_receive(read: Callable[[], str], environ: Mapping[str, str], args: tuple[str, ...]) -> str:  # noqa: ARG001
    updates = parse_updates(read())
    store = _open(environ)
    quarantine = environ.get("GIT_OBJECT_DIRECTORY")
    if quarantine is not None and not os.path.isdir(quarantine):  # noqa: PTH112
        raise RefusedError("objects", "the hook was not given the pushed objects")
    gate = Gate(store, _namespace(store))
    gate.judge(updates)
    return ""


def _post_receive(read: Callable[[], str], environ: Mapping[str, str], args: tuple[str, ...]) -> str:  # noqa: ARG001
    updates = parse_updates(read())
    store = _open(environ)
    space = _namespace(store)
    branch = f"refs/heads/{space}/registry"
    moved = next((u for u in updates if u.ref == branch and u.new is not None), None)
    if moved is None:
        return ""
    from gml.registry.branch import Registry
    from gml.registry.tags import write_tags
    from gml.workspace import Workspace

    gate = Gate(store, space, authority=False)
    gate.judge([moved])
    made = write_tags(Registry(Workspace(store, environ)), gate.accepted)
    return "".join(f"tagged {ref.removeprefix('refs/tags/')}\n" for ref in made)


def _pre_push(read: Callable[[], str], environ: Mapping[str, str], args: tuple[str, ...]) -> str:  # noqa: ARG001
    """Tell beforehand what the server's gate would say; the server decides."""
    store = open_store(environ=environ)
    updates = []
    for line in read().splitlines():
        parts = line.split(" ")
        if len(parts) == 4:
            old, new = (None if not part.strip("0") else part for part in (parts[3], parts[1]))
            updates.append(f"{old or _ZERO} {new or _ZERO} {parts[2]}")
    wanted = [u for u in parse_updates("\n".join(updates)) if u.old is None or store.contains(u.old)]
    Gate(store, _namespace(store), authority=False).judge(wanted)
    return ""


_HOOKS: Final = {"pre-receive": _pre_receive, "post-receive": _post_receive, "pre-push": _pre_push}


class _deadline:  # noqa: N801
    """Raise after some seconds, so that a hook that hangs refuses instead of holding the push."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._usable = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()

    def _ring(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        raise StorageError(f"the hook took longer than {self._seconds} s", hint="nothing was accepted")

    def __enter__(self) -> None:
        if self._usable:
            self._before = signal.signal(signal.SIGALRM, self._ring)
            signal.alarm(self._seconds)

    def __exit__(self, *_: object) -> None:
        if self._usable:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, self._before)
