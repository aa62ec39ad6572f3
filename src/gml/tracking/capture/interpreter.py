"""The Python that a command will run, and what is installed there."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gml.tracking.capture.command import is_python, parse_command

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 5.0
_FORMAT = 1
_SCRIPT = """
import sys, json, site, platform
user = "" if sys.prefix != sys.base_prefix else site.getusersitepackages()
print(json.dumps({"version": platform.python_version(), "implementation": sys.implementation.name,
 "executable": sys.executable, "prefix": sys.prefix, "path": sys.path, "user_site": user}))
"""


def interpreter_of(argv: list[str], environ: Mapping[str, str], cwd: Path | None = None) -> str | None:
    """Return the absolute path of the Python that `argv` would run, None if that cannot be told.

    Understood are `python`, `python3.x` and a script whose first line names a Python, behind wrappers such
    as `env` and `mpirun`. `uv run`, `poetry run` and the like choose for themselves: None.

    Args:
        argv: the command.
        environ: its variables; PATH is searched as the system would.
        cwd: what a relative program name starts from; the current folder without one.

    Example:
        >>> interpreter_of(["/usr/bin/env", "python3", "train.py"], {"PATH": "/usr/bin"})
        '/usr/bin/python3'
    """
    command = parse_command(argv)
    if command.managed or not command.program:
        return None
    path = command.assigned.get("PATH", environ.get("PATH", os.defpath))
    found = _find(command.program, path, cwd or Path.cwd())
    if found is None or is_python(command.program):
        return found
    return _from_shebang(found, path, cwd or Path.cwd())


def same_interpreter(one: str, other: str) -> bool:
    """Whether two paths start the same Python with the same packages.

    A virtual environment is a link to the base interpreter: its folder decides, not where the link ends.
    """
    first, second = Path(os.path.abspath(one)), Path(os.path.abspath(other))  # noqa: PTH100 - links kept
    if first == second:
        return True
    return first.parent == second.parent and first.resolve() == second.resolve()


def probe(python: str, environ: Mapping[str, str], cache_dir: Path | None) -> dict[str, Any]:
    """Ask another Python for `version`, `implementation`, `executable`, `prefix` and import `path`.

    It is started once, for at most 5 seconds, isolated from the current folder and from `PYTHON*`
    variables; the answer is kept in `cache_dir` for as long as neither the interpreter nor its
    `pyvenv.cfg` changes. PYTHONPATH and the user's own packages are put in afterwards, as in a real run.

    Raises:
        OSError: it cannot be started.
        ValueError: it fails or does not answer as a Python does.
        subprocess.TimeoutExpired: it does not answer in time.
    """
    kept = _cache_file(python, cache_dir)
    answer = _load(kept)
    if answer is None:
        answer = _ask(python, environ)
        if kept is not None:
            _keep(kept, answer)
    path = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path += answer["path"]
    if answer["user_site"] and not environ.get("PYTHONNOUSERSITE"):
        path.append(answer["user_site"])
    return {**answer, "path": path}


def _ask(python: str, environ: Mapping[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [python, "-I", "-c", _SCRIPT],
        capture_output=True,
        timeout=_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
        env=dict(environ),
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ValueError(f"{python} failed: {said[-1][:200] if said else f'exit code {done.returncode}'}")
    answer = json.loads(done.stdout)
    if not _is_answer(answer):
        raise ValueError(f"{python} did not answer as a Python does")
    return dict(answer)


def _is_answer(answer: Any) -> bool:
    if not isinstance(answer, dict) or not isinstance(answer.get("path"), list):
        return False
    texts = [answer.get(key) for key in ("version", "implementation", "executable", "prefix", "user_site")]
    return all(isinstance(text, str) for text in [*texts, *answer["path"]])


def _cache_file(python: str, cache_dir: Path | None) -> Path | None:
    """Return where the answer of an interpreter is kept, None where keeping it would be wrong."""
    if cache_dir is None:
        return None
    try:
        with open(python, "rb") as file:  # noqa: PTH123
            if file.read(2) == b"#!":
                return None  # a shim of pyenv or asdf: which Python it starts depends on the folder
        facts = [str(_FORMAT), python]
        for path in (Path(python), Path(python).resolve(), Path(python).parent.parent / "pyvenv.cfg"):
            with suppress(FileNotFoundError):
                facts.append(f"{path}:{path.lstat().st_mtime_ns}")
    except OSError:
        return None
    name = hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_dir / f"python-{name}.json"


def _load(kept: Path | None) -> dict[str, Any] | None:
    if kept is None:
        return None
    try:
        answer = json.loads(kept.read_bytes())
    except (OSError, ValueError):
        return None  # not there yet, or torn: ask again
    return answer if _is_answer(answer) else None


def _keep(kept: Path, answer: dict[str, Any]) -> None:
    staged = kept.with_name(f"{kept.name}.{os.getpid()}")
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        kept.parent.mkdir(parents=True, exist_ok=True)
        staged.write_text(json.dumps(answer), "utf-8")
        staged.replace(kept)


def _find(program: str, path: str, cwd: Path) -> str | None:
    if "/" in program:
        place = cwd / program
        return os.path.abspath(place) if place.is_file() else None  # noqa: PTH100 - a link must stay one
    found = shutil.which(program, path=path)
    return os.path.abspath(cwd / found) if found else None  # noqa: PTH100


def _from_shebang(script: str, path: str, cwd: Path) -> str | None:
    try:
        with open(script, "rb") as file:  # noqa: PTH123
            head = file.read(4096)
    except OSError:
        return None
    if not head.startswith(b"#!"):
        return None
    lines = head.decode("utf-8", "surrogateescape").splitlines()
    words = lines[0][2:].split()
    if words[:1] == ["/bin/sh"] and len(lines) > 1 and lines[1].startswith("'''exec'"):
        # What pip and uv write where the path of the interpreter is too long for a first line.
        try:
            words = shlex.split(lines[1].removeprefix("'''exec'"))
        except ValueError:
            return None
    program = parse_command(words).program
    return _find(program, path, cwd) if is_python(program) else None
