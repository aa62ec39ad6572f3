"""The command line in the process of the test: a fifth of the time of a process of its own."""

from __future__ import annotations

import contextlib
import io

from gml.cli import main as cli


def gml(repo, *args: str, code: int = 0) -> str:
    """Run the command line in this process and return what it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        ended = cli.run(["-C", str(repo.path), *args])
    assert ended == code, (args, said.getvalue())
    return said.getvalue()
