"""The files that a forge needs to judge pull requests into the registry."""

from __future__ import annotations

import textwrap
from importlib import resources
from typing import TYPE_CHECKING, Final

from gml._version import __version__
from gml.domain.errors import ConflictError
from gml.fs import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gml.registry.branch import Registry

# template -> where it goes
_FILES: Final = {
    "github": {
        "workflow.yml": ".github/workflows/gml-registry.yml",
        "ruleset.json": ".github/gml-registry-ruleset.json",
        "tags.json": ".github/gml-registry-tags.json",
        "page.md": ".github/gml-registry.md",
    },
    "gitlab": {
        "pipeline.yml": ".gitlab/gml-registry.gitlab-ci.yml",
        "protected-branch.json": ".gitlab/gml-registry-protected-branch.json",
        "page.md": ".gitlab/gml-registry.md",
    },
    "gitea": {
        "workflow.yml": ".gitea/workflows/gml-registry.yml",
        "protected-branch.json": ".gitea/gml-registry-protected-branch.json",
        "page.md": ".gitea/gml-registry.md",
    },
}
_INDENT: Final = {"github": 10, "gitea": 10, "gitlab": 6}


def write_setup(
    registry: Registry, forge: str, top: Path, *, owners: Sequence[str] = (), force: bool = False
) -> list[Path]:
    """Write the files of a forge below a directory.

    Args:
        registry: whose branch is to be guarded.
        forge: `github`, `gitlab` or `gitea`.
        top: top of a work tree.
        owners: accounts or teams that own the job, for CODEOWNERS; lines of others there are kept.
        force: overwrite files that differ.

    Returns:
        The files that were written; those that are as they should be are left alone.

    Raises:
        ConflictError: a file is there and differs.
    """
    wanted = dict(_texts(registry, forge, top))
    if owners:
        path, text = _owners(forge, top, owners)
        wanted[path] = text
    changed = {path: text for path, text in wanted.items() if _old(path) != text}
    for path in changed:
        if path.exists() and not force and path.name != "CODEOWNERS":
            raise ConflictError(f"{path} is there and differs", hint="--force overwrites it")
    for path, text in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
    return list(changed)


def _old(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def _texts(registry: Registry, forge: str, top: Path) -> Iterator[tuple[Path, str]]:
    folder = resources.files("gml.registry") / "forges"
    words = {
        "BRANCH": registry.branch.removeprefix("refs/heads/"),
        "FORGE": forge,
        "VERSION": __version__,
    }
    steps = _filled((folder / "steps.sh").read_text("utf-8"), words).rstrip("\n")
    words["STEPS"] = textwrap.indent(steps, " " * _INDENT[forge])
    for name, target in _FILES[forge].items():
        yield top / target, _filled((folder / forge / name).read_text("utf-8"), words)


def _filled(text: str, words: dict[str, str]) -> str:
    for key, value in words.items():
        text = text.replace(f"@{key}@", value)
    return text


def _owners(forge: str, top: Path, owners: Sequence[str]) -> tuple[Path, str]:
    """Return CODEOWNERS with a line for each file of the job, at its end: there the last match counts."""
    path = top / f".{forge}" / "CODEOWNERS"
    before = _old(path) or ""
    lines = [f"/{target} {' '.join(owners)}" for target in (*_FILES[forge].values(), f".{forge}/CODEOWNERS")]
    missing = [line for line in lines if line not in before.splitlines()]
    if not missing:
        return path, before
    head = before.rstrip("\n") + "\n" if before.strip() else ""
    return path, head + "\n".join(missing) + "\n"
