"""A unified diff taken apart by file, so that it can be counted, cut and coloured."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


@dataclass(slots=True)
class FileDiff:
    """What a patch does to one file.

    Attributes:
        title: the rest of its `diff --git` line.
        lines: (kind, text) with kind `head`, `hunk`, `add`, `del`, `same` or `note`.
        added: lines added.
        removed: lines removed.
        binary: its content is not text.
    """

    title: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    added: int = 0
    removed: int = 0
    binary: bool = False

    @property
    def path(self) -> str:
        """The file's path; the old one where it was deleted."""
        for prefix in ("+++ b/", "--- a/"):
            for kind, text in self.lines:
                if kind == "head" and text.startswith(prefix):
                    return text[len(prefix) :]
        half = self.title[: len(self.title) // 2].strip()
        return half.removeprefix("a/") or self.title


def split(patch: str) -> list[FileDiff]:
    r"""Return the files of a patch, as `git diff-tree -p` writes it, in order.

    Hunks are followed by their lengths: a removed line `-- x` is no file header.

    Example:
        >>> files = split("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n--- old\n+new\n")
        >>> files[0].path, files[0].added, files[0].removed
        ('x', 1, 1)
    """
    files: list[FileDiff] = []
    old = new = 0
    # Only newlines end lines here: form feeds and U+2028 are part of the user's text.
    for text in patch.removesuffix("\n").split("\n") if patch else ():
        if files and (old > 0 or new > 0) and text[:1] in {"+", "-", " ", "\\", ""}:
            kind = {"+": "add", "-": "del", "\\": "note"}.get(text[:1], "same")
            files[-1].added += kind == "add"
            files[-1].removed += kind == "del"
            old -= kind in {"del", "same"}
            new -= kind in {"add", "same"}
            files[-1].lines.append((kind, text))
            continue
        if text.startswith("diff --git "):
            files.append(FileDiff(text.removeprefix("diff --git ")))
            old = new = 0
            continue
        hunk = _HUNK.match(text)
        if hunk:
            old, new = (int(count) if count is not None else 1 for count in hunk.groups())
        if not files:
            files.append(FileDiff("", []))
        files[-1].binary |= text.startswith("Binary files ")
        files[-1].lines.append(("hunk" if hunk else "note" if text.startswith("\\") else "head", text))
    return files
