"""Running a recorded run again in a throw-away checkout of its code."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError
from gml.domain.ids import short_id
from gml.git.checkout import plain_environ, throw_away_checkout
from gml.git.objects import parse_commit
from gml.projects.isolation import Code, code_of_revision, lfs_pointers, submodules, without_run
from gml.projects.mlproject.sources import Located
from gml.projects.rerun import command as commands
from gml.projects.rerun import data as files
from gml.projects.rerun import project as of_project
from gml.projects.rerun.drift import Report, Tolerances, compare
from gml.projects.rerun.launching import launch_again, linked
from gml.projects.rerun.needs import MissingPartsError, Need
from gml.projects.rerun.surroundings import compare_surroundings, recorded_variables
from gml.tracking.capture.environment import capture_environment
from gml.tracking.capture.interpreter import interpreter_of, probe
from gml.tracking.contents import environment, open_artifact
from gml.tracking.edits import tag_runs
from gml.tracking.launch import Launch, run_command
from gml.tracking.reader import Reader
from gml.tracking.start import NewRun
from gml.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gml.domain.run import Run
    from gml.git.checkout import Checkout

TAG_RESULT: Final = "gml.rerun.result"


@dataclass(frozen=True, slots=True)
class Wish:
    """How a run is to be run again.

    Attributes:
        changes: params with other values.
        exact: demand equal digests of all artifacts.
        tolerances: how far metrics may be off.
        code: revision whose code is used instead of the recorded one.
        bring: further files and folders to copy from the user's work tree.
        force: start although something is missing.
        keep: where the checkout is to stay, None to remove it.
        name: of the new run, None for that of the original with `-rerun`.
        python: bin folder of an environment to run in, None for the present one.
    """

    changes: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False
    tolerances: Tolerances = field(default_factory=Tolerances)
    code: str | None = None
    bring: Sequence[str] = ()
    force: bool = False
    keep: Path | None = None
    name: str | None = None
    python: Path | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A rerun that is ready to start.

    Attributes:
        argv: the command.
        cwd: where it runs.
        needs: what is missing or differs.
        launch: how the command is tracked.
        environ: environment variables.
        top: the checkout.
    """

    argv: list[str]
    cwd: Path
    needs: list[Need]
    launch: Launch
    environ: dict[str, str]
    top: Path


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it: the report, and what had been missing or different before."""

    report: Report
    needs: list[Need]
    argv: list[str]


def is_ours(reader: Reader, run: Run) -> bool:
    """Whether a run was recorded in this clone, as far as its record says."""
    entry = reader.view.entry(run.run_id)
    record = reader.view.documents(entry)[0] if entry is not None else None
    return record is None or record.get("writer") == reader.workspace.writer_id


def rerun(
    reader: Reader,
    run: Run,
    wish: Wish,
    started: Callable[[Prepared], None] | None = None,
) -> Result:
    """Run a recorded run again and compare.

    The user's work tree is not touched: the code is checked out in a temporary directory.

    Args:
        reader: the repository.
        run: what to run again.
        wish: how.
        started: called before the command starts, such as to show what differs.

    Raises:
        MissingPartsError: something it cannot do without is missing; nothing was run.
        NotFoundError: a param that is to be changed does not exist.
        GmlError: the run could not be started.
    """
    with prepared(reader, run, wish) as ready:
        if started is not None:
            started(ready)
        if any(need.blocking for need in ready.needs) and not (wish.force and ready.argv):
            raise MissingPartsError(short_id(run.run_id), ready.needs)
        workspace = Workspace.open(ready.top, ready.environ)
        outcome = run_command(workspace, ready.launch)
    fresh = Reader(reader.workspace)
    again = fresh.resolve(outcome.run_id)
    report = compare(fresh, run, again, changes=wish.changes, tolerances=wish.tolerances, exact=wish.exact)
    tag_runs(reader.workspace, [outcome.run_id], {TAG_RESULT: report.verdict})
    return Result(report, ready.needs, ready.argv)


@contextmanager
def prepared(reader: Reader, run: Run, wish: Wish) -> Iterator[Prepared]:
    """Check out a run's code, bring its data, and look what is missing; all of it is gone afterwards."""
    workspace = reader.workspace
    code, needs = _code(reader, run, wish)
    with throw_away_checkout(workspace.store) as checkout:
        if code is None:
            yield Prepared([], Path(), needs, Launch((), NewRun()), {}, Path())
            return
        top = checkout.place(code.commit, code.tree)
        _patch(reader, run, checkout, wish)
        try:
            yield _prepare(reader, run, wish, top, needs)
        finally:
            if wish.keep is not None:
                checkout.keep(wish.keep)


def _code(reader: Reader, run: Run, wish: Wish) -> tuple[Code | None, list[Need]]:
    store = reader.workspace.store
    if wish.code is not None:
        return code_of_revision(reader.workspace, wish.code), []
    source = run.source
    commit, tree = source.get("commit"), source.get("tree")
    held = source.get("snapshot") or commit

    def here(oid: Any) -> bool:
        if not isinstance(oid, str):
            return False
        try:
            return store.contains(oid)
        except GmlError:
            return False

    if tree is None and here(commit):
        if source.get("dirty") and source.get("code") != "patch":
            lost = Need("code", "uncommitted changes", "were not kept (gml.code was none)", blocking=True)
            return Code(str(commit), _tree(reader, str(commit))), [lost]
        return Code(str(commit), _tree(reader, str(commit))), []
    if here(tree):
        head = commit if here(commit) else held
        if here(head):
            return Code(str(head), str(tree)), []
    name = str(tree or commit or "unknown")[:12]
    detail = f"{name} is not here; fetch refs/gml/code of where it was recorded"
    return None, [Need("code", "snapshot", detail, blocking=True)]


def _tree(reader: Reader, commit: str) -> str:
    return parse_commit(reader.workspace.store.read(commit)[1]).tree


def _patch(reader: Reader, run: Run, checkout: Checkout, wish: Wish) -> None:
    """Apply the uncommitted changes of a run that kept them as a patch."""
    if (
        wish.code is not None
        or run.source.get("code") != "patch"
        or "code/changes.patch" not in run.artifacts
    ):
        return
    patch = checkout.path.parent / "changes.patch"
    with open_artifact(reader, run, "code/changes.patch") as source:
        patch.write_bytes(source.read())
    checkout.apply(patch)


def _prepare(reader: Reader, run: Run, wish: Wish, top: Path, needs: list[Need]) -> Prepared:
    workspace = reader.workspace
    user_top = workspace.store.location.worktree
    cwd, user_cwd = files.folder_in(top, user_top, str(run.source.get("cwd", ".")))
    needs = [*needs, *_files_left(run, top)]
    if not cwd.is_dir():
        needs.append(Need("command", str(cwd), "the directory it ran in is not here", blocking=True))
        cwd = top
    recorded = environment(reader, run)
    environ, variables = _variables(workspace, recorded, wish)
    if isinstance(run.source.get("project"), dict):
        place = Located(Workspace.open(top, environ), cwd, of_project.foreign_facts(run), isolated=True)
        # Before the parameters are read: a path must be there.
        of_project.bring_steps(reader, run, cwd)
        sources, notes = files.data_sources(run)
        needs += notes + files.bring_data(sources, cwd, user_cwd, workspace.blobs)
        needs += files.bring_paths(wish.bring, cwd, user_cwd)
        launch, found = of_project.project_launch(
            run, place, wish.changes, variables, here=wish.python is None
        )
        needs += found
        inside = {**environ, **launch.variables}
        needs += compare_surroundings(recorded, _surroundings(launch.command, inside, cwd, workspace))
        return Prepared(
            list(launch.command), cwd, needs, linked(launch, run, wish.changes, wish.name), environ, top
        )
    argv, found = commands.recorded_command(run, top)
    needs += found
    argv, added = commands.changed_command(run, argv, wish.changes, cwd)
    needs += commands.masked(argv)
    needs += [Need("command", key, "was not on the command line; added as an option") for key in added]
    if argv and not any(need.part == "command" and need.blocking for need in found):
        argv, found = commands.with_program(argv, cwd, user_cwd, environ)
        needs += found
    sources, notes = files.data_sources(run)
    needs += notes + files.bring_data(sources, cwd, user_cwd, workspace.blobs)
    needs += files.bring_paths(wish.bring, cwd, user_cwd)
    _prefer_checkout(argv, environ, cwd, top, user_top, workspace)
    needs += compare_surroundings(recorded, _surroundings(argv, environ, cwd, workspace))
    launch = launch_again(run, argv, cwd, wish.changes, variables)
    launch = linked(launch, run, wish.changes, wish.name)
    return Prepared(argv, cwd, needs, launch, environ, top)


def _files_left(run: Run, top: Path) -> list[Need]:
    left_out = run.source.get("left_out")
    needs = [
        Need("code", str(name), f"was left out of the snapshot ({why}); --bring copies it")
        for name, why in (left_out.items() if isinstance(left_out, dict) else ())
    ]
    needs += [Need("code", name, "is a submodule and is not checked out") for name in submodules(top)]
    return needs + [
        Need("code", name, "is a Git LFS pointer, its content is not here") for name in lfs_pointers(top)
    ]


def _variables(
    workspace: Workspace, recorded: Mapping[str, Any], wish: Wish
) -> tuple[dict[str, str], dict[str, str]]:
    environ = without_run(plain_environ(workspace.environ))
    variables = recorded_variables(recorded)
    for name, value in variables.items():
        if value is None:
            environ.pop(name, None)
    if wish.python is not None:
        environ["PATH"] = os.pathsep.join([str(wish.python), environ.get("PATH", os.defpath)])
        environ["VIRTUAL_ENV"] = str(wish.python.parent)
    return environ, {name: value for name, value in variables.items() if value is not None}


def _prefer_checkout(
    argv: Sequence[str],
    environ: dict[str, str],
    cwd: Path,
    top: Path,
    user_top: Path | None,
    workspace: Workspace,
) -> None:
    """Let packages that are installed in place be imported from the checkout."""
    python = interpreter_of(list(argv), environ, cwd) if argv else None
    if python is None or user_top is None:
        return
    with suppress(OSError, ValueError):
        path = probe(python, environ, workspace.state_dir / "cache" / "python")["path"]
        entries = [*path, *files.editable_folders(path, user_top)]
        first = files.import_path(entries, top, user_top)
        if first:
            rest = [environ["PYTHONPATH"]] if environ.get("PYTHONPATH") else []
            environ["PYTHONPATH"] = os.pathsep.join([*first, *rest])


def _surroundings(
    argv: Sequence[str], environ: Mapping[str, str], cwd: Path, workspace: Workspace
) -> dict[str, Any]:
    try:
        python = interpreter_of(list(argv), environ, cwd) if argv else None
        return capture_environment(
            environ, cwd, python=python, cache_dir=workspace.state_dir / "cache" / "python"
        )
    except (GmlError, OSError, ValueError):
        return {}
