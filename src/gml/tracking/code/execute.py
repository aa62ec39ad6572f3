"""Running a command at other commits, in a throw-away work tree."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError, NotFoundError, UsageError
from gml.domain.run import FINISHED
from gml.tracking.code.facts import facts_of
from gml.tracking.code.values import Measured
from gml.tracking.code.verdicts import Attempt
from gml.tracking.start import ENV_ACTIVE, ENV_JOURNAL, ENV_RUN_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from gml.domain.run import Run
    from gml.git.checkout import Checkout
    from gml.tracking.code.values import Metric
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

log = logging.getLogger("gml")

ENV_TOP: Final = "GML_BISECT_TOP"
GRACE_SECONDS: Final = 10.0
_FOREIGN: Final = (ENV_RUN_ID, ENV_ACTIVE, ENV_JOURNAL, "MLFLOW_RUN_ID")


def split_command(text: str) -> list[str]:
    """Return the argv of a command line; quotes work as in a shell, nothing else does.

    Raises:
        UsageError: it is empty, or a quote is not closed.
        NotFoundError: the program is not on the PATH.
    """
    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--run cannot be split into words: {error}", hint="check its quotes") from None
    if not argv:
        raise UsageError("--run is empty", hint="such as --run 'gml log -- make train'")
    if (
        os.sep not in argv[0]
        and shutil.which(argv[0], path=_path(os.environ.get("PATH", os.defpath))) is None
    ):
        raise NotFoundError(f"the command {argv[0]!r} of --run was not found", hint="check its name and PATH")
    return argv


def _path(path: str) -> str:
    # `gml` is found also where its environment was not activated.
    return os.pathsep.join([path, str(Path(sys.executable).parent)])


@contextmanager
def commit_runner(
    workspace: Workspace,
    argv: Sequence[str],
    metric: Metric,
    open_reader: Callable[[], Reader],
    experiments: Collection[str] | None = None,
) -> Iterator[Callable[[str], Attempt]]:
    """Give a function that runs a command at a commit and returns the value that it recorded.

    The command runs in a linked work tree of the same repository, in a temporary directory that is gone
    afterwards. It starts in the folder that corresponds to the current one, with GML_REPO naming the
    work tree (so its runs land in the ledger, with this commit) and GML_BISECT_TOP the user's files. Its
    output goes to standard error. An exit code other than 0 skips the commit.

    Args:
        workspace: the repository.
        argv: the command; it must record a run, as `gml log -- ...` does.
        metric: what to read.
        open_reader: reads the ledger afresh, after committing what ended.
        experiments: only runs of these experiment ids.

    Raises:
        RepositoryError: there is no git command.
    """
    from gml.git.checkout import throw_away_checkout

    with throw_away_checkout(workspace.store) as checkout:
        yield _Runner(workspace, checkout, argv, metric, open_reader, experiments)


class _Runner:
    def __init__(
        self,
        workspace: Workspace,
        checkout: Checkout,
        argv: Sequence[str],
        metric: Metric,
        open_reader: Callable[[], Reader],
        experiments: Collection[str] | None,
    ) -> None:
        self._workspace = workspace
        self._checkout = checkout
        self._argv = list(argv)
        self._metric = metric
        self._open_reader = open_reader
        self._experiments = experiments

    def __call__(self, commit: str) -> Attempt:
        """Run the command at a commit."""
        known = set(_ids(self._open_reader()))
        top = self._checkout.switch(commit)
        try:
            code = self._spawn(top)
        except OSError as error:
            return Attempt((), f"the command cannot be run there: {error.strerror}")
        if code:
            return Attempt(
                (), f"the command ended with {code}" if code > 0 else f"signal {-code} ended the command"
            )
        reader = self._open_reader()
        new = [run for i in _ids(reader) if i not in known and (run := _read(reader, i)) is not None]
        return self._judge([run for run in new if run.source.get("commit") == commit])

    def _judge(self, runs: list[Run]) -> Attempt:
        from gml.index.query.fields import Context, getter

        if not runs:
            return Attempt((), "the command recorded no run (is it `gml log -- ...`?)")
        find = getter(self._metric.field)
        found = []
        for run in runs:
            value = find(run, Context())
            wanted = self._experiments is None or run.experiment_id in self._experiments
            if value is not None and run.status == FINISHED and wanted:
                found.append(Measured(facts_of(run), float(value)))
        if not found:
            return Attempt(
                (), f"its run has no {self._metric.name}, did not finish or is of another experiment"
            )
        return Attempt(tuple(found))

    def _spawn(self, top: Path) -> int:
        from gml.git.checkout import plain_environ

        environ = plain_environ(self._workspace.environ)
        for name in _FOREIGN:
            environ.pop(name, None)  # the runs are not parts of a run around the bisection
        user_top = self._workspace.store.location.worktree
        environ["GML_REPO"] = str(top)
        environ[ENV_TOP] = str(user_top or self._workspace.store.location.git_dir)
        environ["PATH"] = _path(environ.get("PATH", os.defpath))
        environ["PWD"] = str(self._folder(top, user_top))
        sys.stdout.flush()
        child = subprocess.Popen(
            self._argv,
            cwd=environ["PWD"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=_stderr(),
            stderr=None,
        )
        try:
            return child.wait()
        except BaseException:
            # Ctrl-C reached the child by itself; it gets time to record that.
            _end(child)
            raise

    @staticmethod
    def _folder(top: Path, user_top: Path | None) -> Path:
        here = Path.cwd()
        if user_top is not None and here.is_relative_to(user_top):
            same = top / here.relative_to(user_top)
            if same.is_dir():
                return same
        return top


def _stderr() -> int:
    """Return where the command's output goes: standard output is for the answer."""
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        return subprocess.DEVNULL


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        child.send_signal(signal.SIGINT)
        child.wait(GRACE_SECONDS)
        return
    child.kill()
    child.wait()


def _ids(reader: Reader) -> Iterator[str]:
    return (entry.run_id for entry in reader.entries())


def _read(reader: Reader, run_id: str) -> Run | None:
    try:
        return reader.run(run_id)
    except GmlError as error:
        log.warning("gml: %s", error)
        return None
