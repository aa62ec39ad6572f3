"""Windows: nothing that only POSIX systems have is imported when a module is imported."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "gml"
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}


def imported_at_once(tree: ast.Module) -> set[str]:
    """Return what importing a module imports, leaving out branches for one system."""
    found: set[str] = set()
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.If):
            if "sys.platform" not in ast.unparse(node.test):
                pending += [*node.body, *node.orelse]
        elif isinstance(node, (ast.Try, ast.With, ast.ClassDef)):
            pending += node.body
    return found


def test_no_module_imports_what_only_posix_has():
    found = {
        str(path.relative_to(SOURCE)): imported_at_once(ast.parse(path.read_text())) & POSIX_ONLY
        for path in SOURCE.rglob("*.py")
    }
    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}


def test_the_check_itself_sees_such_imports():
    assert imported_at_once(ast.parse("import fcntl")) & POSIX_ONLY == {"fcntl"}
    guarded = "import sys\nif sys.platform != 'win32':\n    import fcntl\ndef f():\n    import pty\n"
    assert imported_at_once(ast.parse(guarded)) & POSIX_ONLY == set()
