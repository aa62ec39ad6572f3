"""The command of a recorded run, as it can be started again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import NotFoundError, UsageError
from gml.domain.ids import short_id
from gml.projects.rerun.needs import Need
from gml.projects.sweep.commands import put
from gml.tracking.capture.argv import with_param
from gml.tracking.capture.command import is_python, parse_command
from gml.tracking.capture.files import read_params_file
from gml.tracking.capture.keys import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.domain.run import Run

# The record keeps so many words of a command line, and so many characters of each.
MAX_WORDS: Final = 200
MAX_LENGTH: Final = 2_000
_SCRIPTS: Final = {".py": "python", ".sh": "bash", ".R": "Rscript"}


def recorded_command(run: Run, top: Path) -> tuple[list[str], list[Need]]:
    """Return the command line of a run, and what is wrong with it.

    Of a run that a script started itself (no `gml log`) the record has the script and its arguments; the
    interpreter is put in front.

    Args:
        run: the recorded run.
        top: its code, checked out.
    """
    argv = [str(word) for word in run.source.get("argv", ())]
    needs: list[Need] = []
    if run.source.get("type") == "NOTEBOOK":
        return argv, [Need("command", "notebook", "a notebook session has no command line", blocking=True)]
    if not argv or argv[0] in {"", "-c", "-"}:
        return argv, [Need("command", "argv", "the record has no command line", blocking=True)]
    if len(argv) >= MAX_WORDS or any(len(word) >= MAX_LENGTH for word in argv):
        needs.append(Need("command", "argv", "it was too long to be recorded whole", blocking=True))
    if not run.process and (runner := _SCRIPTS.get(Path(argv[0]).suffix)) is not None:
        argv = [runner, _inside(argv[0], top), *argv[1:]]
    return argv, needs


def _inside(script: str, top: Path) -> str:
    """Return where a script with an absolute path of another machine is in the code."""
    path = Path(script)
    if not path.is_absolute() or path.exists():
        return script
    for start in range(1, len(path.parts)):
        candidate = top.joinpath(*path.parts[start:])
        if candidate.is_file():
            return str(candidate)
    return script


def masked(argv: list[str]) -> list[Need]:
    """Return which values were recorded as `***`, being secrets."""
    found = []
    for at, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if MASK in (value if equals else word):
            option = name if equals else argv[at - 1] if at else word
            detail = "its value is a secret that was not recorded; give it with --set"
            found.append(Need("command", option.lstrip("-"), detail, blocking=True))
    return found


def changed_command(
    run: Run, argv: list[str], changes: Mapping[str, str], cwd: Path
) -> tuple[list[str], list[str]]:
    """Return the command line with other values of params, and the params that `gml log -p` has to set.

    A param that is not on the command line, but that the script logged itself, is added as `--key value`.

    Args:
        run: the recorded run.
        argv: its command line.
        changes: new values.
        cwd: where the command will run; a params file there has params of its own.

    Raises:
        NotFoundError: the run has no such param; names the nearest.
        UsageError: the param comes from a file.
    """
    given = set(_options(run).get("params", ()))
    added = []
    sweep = run.source.get("sweep")
    if isinstance(sweep, dict):
        # A trial of a sweep whose command has its values in it.
        values = {key: run.params[key] for key in given if key in run.params} | dict(changes)
        argv = [put(str(word), values) for word in sweep.get("command", ())]
    for key, value in changes.items():
        try:
            argv = with_param(argv, key, value)
        except NotFoundError:
            if key in given:
                continue
            if key not in run.params:
                raise _unknown(run, key) from None
            if key in _in_files(run, cwd):
                raise UsageError(
                    f"{key!r} comes from a params file, not from the command line",
                    hint="change the file and start a new run",
                ) from None
            argv = [*argv, f"--{key}", value]
            added.append(key)
    return argv, added


def _options(run: Run) -> dict[str, Any]:
    found = run.source.get("launch")
    return dict(found) if isinstance(found, dict) else {}


def _in_files(run: Run, cwd: Path) -> set[str]:
    found: set[str] = set()
    for name in [*_options(run).get("params_files", ()), "params.yaml"]:
        if (cwd / name).is_file():
            found |= set(read_params_file(cwd / name))
    return found


def _unknown(run: Run, key: str) -> NotFoundError:
    from difflib import get_close_matches

    near = get_close_matches(key, run.params, 1)
    known = ", ".join(sorted(run.params)[:10]) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"it has: {known}"
    return NotFoundError(f"run {short_id(run.run_id)} has no param {key!r}", hint=hint)


def with_program(
    argv: list[str], cwd: Path, user_cwd: Path | None, environ: Mapping[str, str]
) -> tuple[list[str], list[Need]]:
    """Return a command line whose program exists here, and what had to be changed for that.

    A program of an ignored folder (`.venv/bin/python`) is the one in the user's work tree; a Python that
    is not here is replaced by the `python` of the PATH.

    Args:
        argv: the command line.
        cwd: where it will run.
        user_cwd: the same folder in the user's work tree, None where there is none.
        environ: variables, for PATH.
    """
    path = environ.get("PATH", os.defpath)
    program = parse_command(argv).program or argv[0]
    if _exists(program, cwd, path):
        return argv, []
    at = argv.index(program) if program in argv else 0
    if os.sep in program and not Path(program).is_absolute() and user_cwd is not None:
        theirs = user_cwd / program
        if theirs.is_file():
            return [*argv[:at], str(theirs), *argv[at + 1 :]], []
    if is_python(program):
        for name in ("python", "python3"):
            if shutil.which(name, path=path):
                note = Need("environment", program, f"is not here; {name} is used instead")
                return [*argv[:at], name, *argv[at + 1 :]], [note]
    return argv, [Need("command", program, "the program is not here", blocking=True)]


def _exists(program: str, cwd: Path, path: str) -> bool:
    return shutil.which(cwd / program if os.sep in program else program, path=path) is not None
