"""Git configuration read from its files, the same way for both engines and only from a given environment.

Libraries read HOME from the process once, at import; gml is handed its environment, and may serve
several repositories in one process.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import RepositoryError, StorageError
from gml.fs import fsync_directory
from gml.git.files import storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Pair = tuple[str, str | None]
_SECTION: Final = re.compile(r'\[\s*([A-Za-z0-9.-]+)\s*(?:"((?:[^"\\\n]|\\.)*)")?\s*\]')
_NAME: Final = re.compile(r"[ \t]*([A-Za-z][A-Za-z0-9-]*)[ \t]*(=)?[ \t]*")
_KEY: Final = re.compile(r"[A-Za-z0-9-]+(\..+)?\.[A-Za-z][A-Za-z0-9-]*", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "b": "\b", '"': '"', "\\": "\\"}
_TRUE: Final = {"true", "yes", "on", "1"}


def truth(value: str | None, *, default: bool = False, bare_key: bool = False) -> bool:
    """Read a git boolean; a key without `=` (None with `bare_key`) is true."""
    if value is None:
        return True if bare_key else default
    return value.lower() in _TRUE or (value.isdigit() and int(value) != 0)


def normal_key(key: str) -> str:
    """Lower-case section and name; the subsection between them keeps its case."""
    section, _, rest = key.partition(".")
    middle, dot, name = rest.rpartition(".")
    return f"{section.lower()}.{middle}{dot}{name.lower()}"


def parse_config(content: str) -> list[Pair]:
    """Return (key, value) in file order; the value of a key without `=` is None.

    Raises:
        RepositoryError: the text is not git configuration.
    """
    pairs: list[Pair] = []
    section = ""
    at = 0
    content = content.removeprefix("\ufeff").replace("\r\n", "\n")
    while at < len(content):
        char = content[at]
        if char in " \t\n\r":
            at += 1
        elif char in "#;":
            end = content.find("\n", at)
            at = len(content) if end < 0 else end
        elif char == "[":
            match = _SECTION.match(content, at)
            if match is None:
                raise RepositoryError(f"bad git config line {content.count(chr(10), 0, at) + 1}")
            section = match[1].lower()
            if match[2] is not None:
                section += "." + re.sub(r"\\(.)", r"\1", match[2])
            at = match.end()
        else:
            match = _NAME.match(content, at)
            if match is None or not section:
                raise RepositoryError(f"bad git config line {content.count(chr(10), 0, at) + 1}")
            value, at = _value(content, match.end()) if match[2] else (None, match.end())
            pairs.append((f"{section}.{match[1].lower()}", value))
    return pairs


def _value(content: str, at: int) -> tuple[str, int]:
    """Read one value: quotes, escapes, continued lines, comments; trailing blanks count only in quotes."""
    out: list[str] = []
    keep = 0
    quoted = False
    while at < len(content):
        char = content[at]
        at += 1
        if char == "\n":
            break
        if char == "\\" and at < len(content):
            escape = content[at]
            at += 1
            if escape != "\n":
                out.append(_ESCAPES.get(escape, escape))
                keep = len(out)
        elif char == '"':
            quoted = not quoted
            keep = max(keep, len(out))
        elif char in "#;" and not quoted:
            end = content.find("\n", at)
            at = len(content) if end < 0 else end
        else:
            blank = char in " \t" and not quoted
            if blank and not keep:
                continue  # also after a continued line
            out.append(char)
            if not blank:
                keep = len(out)
    return "".join(out[:keep]), at


class GitConfig:
    """All levels of configuration of one repository (or of none), fresh on every call.

    Files are parsed again only when their size, date or inode changed.
    """

    def __init__(
        self, environ: Mapping[str, str], git_dir: Path | None = None, common_dir: Path | None = None
    ) -> None:
        self._environ = environ
        self._git_dir = git_dir
        self._common_dir = common_dir or git_dir
        self._cache: dict[Path, tuple[tuple[int, int, int], list[Pair]]] = {}

    def get(self, key: str) -> str | None:
        """Return the last value of a key; a key without `=` reads as `true`."""
        wanted = normal_key(key)
        found: str | None = None
        for name, value in self.items():
            if name == wanted:
                found = "true" if value is None else value
        return found

    def get_all(self, key: str, *, protected: bool = False) -> list[str]:
        """Return all values of a key; `protected` leaves out what the repository itself says."""
        wanted = normal_key(key)
        return [value or "" for name, value in self.items(protected=protected) if name == wanted]

    def boolean(self, key: str, *, default: bool = False) -> bool:
        """Return a key as git reads booleans."""
        return truth(self.get(key), default=default)

    def items(self, *, protected: bool = False) -> Iterator[Pair]:
        """Yield all pairs, weakest level first."""
        for path in self._global_files():
            yield from self._file(path, 0)
        if self._common_dir and not protected:
            local = list(self._file(self._common_dir / "config", 0))
            yield from local
            worktree = self._git_dir and self._git_dir / "config.worktree"
            if worktree and truth(dict(local).get("extensions.worktreeconfig")):
                yield from self._file(worktree, 0)
        yield from self._from_environ()

    def _global_files(self) -> Iterator[Path]:
        env = self._environ
        if not truth(env.get("GIT_CONFIG_NOSYSTEM")):
            yield Path(env.get("GIT_CONFIG_SYSTEM") or "/etc/gitconfig")
        if "GIT_CONFIG_GLOBAL" in env:
            yield Path(env["GIT_CONFIG_GLOBAL"])
            return
        home = env.get("HOME")
        xdg = env.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
        if xdg:
            yield Path(xdg) / "git" / "config"
        if home:
            yield Path(home) / ".gitconfig"

    def _from_environ(self) -> Iterator[Pair]:
        env = self._environ
        for part in shlex.split(env.get("GIT_CONFIG_PARAMETERS", "")):
            key, found, value = part.partition("=")
            yield normal_key(key), value if found else None
        with contextlib.suppress(KeyError, ValueError):
            for number in range(int(env.get("GIT_CONFIG_COUNT") or 0)):
                yield normal_key(env[f"GIT_CONFIG_KEY_{number}"]), env[f"GIT_CONFIG_VALUE_{number}"]

    def _file(self, path: Path, depth: int) -> Iterator[Pair]:
        for key, value in self._parsed(path):
            yield key, value
            if not value or not key.startswith(("include.", "includeif.")) or not key.endswith(".path"):
                continue
            if depth < 10 and (key == "include.path" or self._holds(key[10:-5], path)):
                yield from self._file(self._expand(value, path.parent), depth + 1)

    def _parsed(self, path: Path) -> list[Pair]:
        try:
            info = path.stat()
            stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
            cached = self._cache.get(path)
            if cached and cached[0] == stamp:
                return cached[1]
            pairs = parse_config(path.read_text("utf-8", "surrogateescape"))
        except OSError:
            return []
        except RepositoryError as exc:
            raise RepositoryError(f"{exc.message} in {path}", hint="fix the file") from exc
        self._cache[path] = (stamp, pairs)
        return pairs

    def _expand(self, value: str, base: Path) -> Path:
        if value.startswith("~/"):
            return Path(self._environ.get("HOME", "/")) / value[2:]
        return base / value

    def _holds(self, condition: str, path: Path) -> bool:
        """Decide `includeIf`: gitdir, gitdir/i and onbranch; what is not known does not hold."""
        kind, _, pattern = condition.partition(":")
        if kind in {"gitdir", "gitdir/i"} and self._git_dir:
            if pattern.startswith("./"):
                pattern = f"{path.parent.resolve()}/{pattern[2:]}"
            elif pattern.startswith("~/"):
                pattern = self._environ.get("HOME", "") + pattern[1:]
            elif not pattern.startswith("/"):
                pattern = "**/" + pattern
            if pattern.endswith("/"):
                pattern += "**"
            flags = re.IGNORECASE if kind.endswith("/i") else 0
            rule = re.compile(_glob(pattern), flags)
            places = {str(self._git_dir), str(self._git_dir.resolve())}
            return any(rule.fullmatch(place) for place in places)
        if kind == "onbranch" and self._git_dir:
            with contextlib.suppress(OSError):
                head = (self._git_dir / "HEAD").read_text("utf-8", "surrogateescape").strip()
                pattern += "**" if pattern.endswith("/") else ""
                return head.startswith("ref: refs/heads/") and bool(re.fullmatch(_glob(pattern), head[16:]))
        return False


def _glob(pattern: str) -> str:
    """Translate a path pattern with `**` to a regular expression."""
    out = ""
    for part in re.split(r"(\*\*/|/\*\*|\*|\?|\[[^\]]*\])", pattern):
        special = {"**/": "(?:.*/)?", "/**": "/.*", "*": "[^/]*", "?": "[^/]"}.get(part)
        if special is None:
            special = fnmatch.translate(part)[4:-3] if part.startswith("[") else re.escape(part)
        out += special
    return out


def user_file(environ: Mapping[str, str]) -> Path:
    """Return the file that `git config --global` writes.

    Raises:
        StorageError: there is no home directory.
    """
    if "GIT_CONFIG_GLOBAL" in environ:
        return Path(environ["GIT_CONFIG_GLOBAL"])
    home = environ.get("HOME")
    if not home:
        raise StorageError("there is no home directory for your configuration", hint="set HOME")
    xdg = Path(environ.get("XDG_CONFIG_HOME") or f"{home}/.config") / "git" / "config"
    own = Path(home) / ".gitconfig"
    return xdg if xdg.is_file() and not own.exists() else own


def set_value(path: Path, key: str, value: str | None, *, add: bool = False) -> None:
    """Set a key in one config file, or remove it with None; comments and order stay as they are.

    With `add` the values that it has stay, and one more follows.

    Raises:
        StorageError: the file is locked by somebody else or can not be written.
        RepositoryError: the key is not a config key.
    """
    if not _KEY.fullmatch(key) or "\n" in key:
        raise RepositoryError(f"{key!r} is not a git config key", hint="such as gml.namespace")
    lock = path.with_name(path.name + ".lock")
    with storage(f"write {path}"):
        try:
            fd = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError as exc:
            raise StorageError(
                f"{path} is locked", hint=f"delete {lock} if no git process is running"
            ) from exc
        try:
            with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                content = path.read_text("utf-8", "surrogateescape") if path.exists() else ""
                changed = _edited(content, normal_key(key), value, add=add)
                if dict(parse_config(changed)).get(normal_key(key)) != value:
                    raise RepositoryError(f"cannot edit {key} in {path}", hint=f"run `git config {key} ...`")
                file.write(changed)
                file.flush()
                os.fsync(fd)
            if path.exists():
                lock.chmod(path.stat().st_mode & 0o7777)
            lock.rename(path)
            fsync_directory(path.parent)
        except BaseException:
            lock.unlink(missing_ok=True)
            raise


def _edited(content: str, key: str, value: str | None, *, add: bool) -> str:
    """Replace or insert one key, line by line."""
    section, name = key.rpartition(".")[::2]
    lines = content.splitlines(keepends=True)
    kept: list[str] = []
    current = ""
    insert = None
    skipping = False
    for line in lines:
        header = _SECTION.match(line.lstrip())
        if skipping:
            skipping = line.rstrip("\n").endswith("\\")
            continue
        if header:
            current = header[1].lower() + (
                "." + re.sub(r"\\(.)", r"\1", header[2]) if header[2] is not None else ""
            )
        match = None if header else _NAME.match(line)
        if not add and current == section and match and match[1].lower() == name:
            skipping = line.rstrip("\n").endswith("\\")
            continue
        kept.append(line)
        if current == section:
            insert = len(kept)
    if value is None:
        return "".join(kept)
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    if insert is None:
        top, _, sub = section.partition(".")
        quoted = sub.replace("\\", "\\\\").replace('"', '\\"')
        kept.append(f'[{top} "{quoted}"]\n' if sub else f"[{top}]\n")
        insert = len(kept)
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    if value != value.strip() or any(c in value for c in "#;") or not value:
        text = f'"{text}"'
    kept.insert(insert, f"\t{name} = {text}\n")
    return "".join(kept)
