"""The port to schedulers. Other packages add backends with the entry point group `gml.backends`."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, Protocol

from gml.domain.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

GROUP: Final = "gml.backends"
WAITING: Final = "waiting"
RUNNING: Final = "running"
ENDED: Final = "ended"


@dataclass(frozen=True, slots=True)
class Task:
    """A command to run somewhere.

    Attributes:
        name: what people will see in the scheduler's lists.
        argv: the command line; no part of it is read by a shell.
        cwd: where it runs, on a file system that the scheduler's machines share.
        output: file for what it prints.
        variables: environment variables it needs.
        options: what the user's configuration of the backend says.
    """

    name: str
    argv: Sequence[str]
    cwd: Path
    output: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """A scheduler.

    How a run ended is what the run's record says; a backend only has to know whether its job is over.
    """

    def submit(self, task: Task) -> str:
        """Hand a task over and return what the scheduler calls it.

        Raises:
            NotFoundError: the scheduler's commands are not here.
            RemoteError: it refused the task; in its words.
            InvalidValueError: an option is not one of the backend's.
        """

    def state(self, job: str) -> str:
        """Return WAITING, RUNNING or ENDED; ENDED for a job that nobody knows.

        Raises:
            RemoteError: the scheduler cannot be asked.
        """

    def cancel(self, job: str) -> None:
        """Stop a job; one that has ended is no error.

        Raises:
            RemoteError: the scheduler refused.
        """


def _slurm(environ: Mapping[str, str]) -> Backend:
    from gml.projects.backends.slurm import SlurmBackend

    return SlurmBackend(environ)


_OWN: Final[Mapping[str, Callable[[Mapping[str, str]], Backend]]] = {"slurm": _slurm}


def backend_named(name: str, environ: Mapping[str, str]) -> Backend:
    """Return a backend by name.

    Raises:
        NotFoundError: there is none; names those there are.
    """
    if name in _OWN:
        return _OWN[name](environ)
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted({"local", *_OWN, *found}))
        raise NotFoundError(f"there is no backend {name!r}", hint=f"there are: {known}")
    made: Backend = found[name].load()(environ)
    return made
