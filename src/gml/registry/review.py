"""The review page of a stage change: candidate against champion, as commit message and comment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gml.domain.run import Run
    from gml.policy.records import Version
    from gml.policy.view import Accepted
    from gml.registry.branch import Registry, View

MAX_COMMENT: Final = 65_000
_MAX_ROWS: Final = 40
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>|#~@])")
_ENVIRONMENT: Final = ("python", "system", "host", "packages_digest")


def plain(text: Any, limit: int = 200) -> str:
    """Return text of others as one line without control characters, for a page that people trust."""
    line = " ".join(str(text).split())
    line = "".join(c for c in line if c.isprintable())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def markdown(text: Any, limit: int = 200) -> str:
    """Return text of others as Markdown that shows it and does nothing else: no links, no mentions."""
    return _MARKDOWN.sub(r"\\\1", plain(text, limit)).replace("://", ":\u200b//")


def size(count: int) -> str:
    """Return a number of bytes for people."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"


def number(value: float) -> str:
    """Return a metric for people."""
    return f"{value:.6g}"


class Comparison:
    """A candidate beside the version that it would replace.

    Args:
        registry: where both are.
        view: the state before the change.
        model: name of the model.
        stage: name of the stage.
        version: number of the candidate, None when the stage is to be emptied.
        before: number of the version that the stage holds.
    """

    def __init__(
        self, registry: Registry, view: View, model: str, stage: str, version: int | None, before: int | None
    ) -> None:
        self.model, self.stage = model, stage
        evidence = registry.evidence()
        self.candidate = view.version(model, version) if version is not None else None
        self.champion = view.version(model, before) if before is not None else None
        self.run = evidence.run(self.candidate) if self.candidate else None
        self.old = evidence.run(self.champion) if self.champion else None
        self._registry = registry

    @property
    def subject(self) -> str:
        """The first line of the commit."""
        if self.candidate is None:
            return f"{self.model}: {self.stage} is emptied"
        number_ = f"v{self.candidate.version}"
        before = f" (was v{self.champion.version})" if self.champion else ""
        return f"{self.model}: {self.stage} is {number_}{before}"

    def facts(self) -> list[tuple[str, str, str]]:
        """Return rows of what is not a number: name, champion, candidate."""
        rows = []
        for name in ("run", "code", "who", "data", "files", "format", "digest", *_ENVIRONMENT):
            left = _fact(name, self.champion, self.old)
            right = _fact(name, self.candidate, self.run)
            if left or right:
                rows.append((name, left, right))
        return rows

    def numbers(self) -> list[tuple[str, str, str, str]]:
        """Return rows of metrics: name, champion, candidate, difference."""
        left, right = _metrics(self.old), _metrics(self.run)
        rows = []
        for key in sorted({*left, *right}):
            one, two = left.get(key), right.get(key)
            delta = f"{two - one:+.6g}" if one is not None and two is not None else ""
            rows.append((key, _shown(one), _shown(two), delta))
        return rows

    def params(self) -> list[tuple[str, str, str]]:
        """Return rows of the params that differ: name, champion, candidate."""
        left: Mapping[str, str] = self.old.params if self.old else {}
        right: Mapping[str, str] = self.run.params if self.run else {}
        keys = sorted({*left, *right})
        return [(k, left.get(k, ""), right.get(k, "")) for k in keys if left.get(k) != right.get(k)]

    def code_change(self) -> str:
        """Return how the code changed between the two, as far as both are here: files and their number."""
        left, right = _tree(self.old), _tree(self.run)
        if left is None or right is None or left == right:
            return "the same code" if left is not None and left == right else ""
        from gml.domain.errors import GmlError
        from gml.git import trees

        try:
            paths = [path for path, _, _ in trees.walk(self._registry.store, left, right)]
        except GmlError:
            return ""
        some = ", ".join(plain(path, 80) for path in paths[:8])
        return f"{len(paths)} files differ: {some}{', ...' if len(paths) > 8 else ''}"

    def message(self, comment: str = "") -> str:
        """Return the commit message: the review page as plain text."""
        lines = [self.subject, ""]
        if comment:
            lines += [*(plain(line, 500) for line in comment.splitlines()[:50]), ""]
        width = max([len(r[0]) for r in (*self.facts(), *self.numbers(), *self.params())], default=4)
        width = min(width, 40)
        if self.candidate is None:
            return "\n".join(lines).rstrip() + "\n"
        lines.append(f"{'':{width}}  {_title(self.champion):24}  {_title(self.candidate)}")
        for name, one, two, delta in self.numbers()[:_MAX_ROWS]:
            lines.append(f"{plain(name, 40):{width}}  {one:24}  {two}{f'  ({delta})' if delta else ''}")
        for name, one, two in [*self.params()[:_MAX_ROWS], *self.facts()]:
            lines.append(f"{plain(name, 40):{width}}  {plain(one, 60):24}  {plain(two, 100)}")
        change = self.code_change()
        if change:
            lines += ["", f"code: {change}"]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def page(self) -> list[str]:
        """Return the comparison as Markdown lines."""
        if self.candidate is None:
            return []
        head = f"| | {markdown(_title(self.champion))} | {markdown(_title(self.candidate))} | |"
        lines = [head, "|---|---|---|---|"]
        lines += [
            f"| {markdown(n, 60)} | {one} | {two} | {delta} |"
            for n, one, two, delta in self.numbers()[:_MAX_ROWS]
        ]
        rest = [*self.params()[:_MAX_ROWS], *self.facts()]
        lines += [f"| {markdown(n, 60)} | {markdown(a, 80)} | {markdown(b, 80)} | |" for n, a, b in rest]
        change = self.code_change()
        return [*lines, "", f"Code: {markdown(change, 600)}", ""] if change else [*lines, ""]


def _title(version: Version | None) -> str:
    return f"v{version.version}" if version is not None else "nothing"


def _shown(value: float | None) -> str:
    return "" if value is None else number(value)


def _metrics(run: Run | None) -> dict[str, float]:
    return {key: summary.last for key, summary in run.metrics.items()} if run else {}


def _tree(run: Run | None) -> str | None:
    tree = run.source.get("tree") if run else None
    return tree if isinstance(tree, str) else None


def _fact(name: str, version: Version | None, run: Run | None) -> str:
    if version is None:
        return ""
    source: Mapping[str, Any] = run.source if run else {}
    match name:
        case "run":
            return version.run or "imported"
        case "files":
            return f"{version.files} files, {size(version.size)}"
        case "format":
            return version.format_class
        case "digest":
            return version.digest[:16]
        case "who":
            return str(source.get("author") or version.creator)
        case "code":
            commit = str(source.get("commit") or "")[:12]
            return f"{commit} with uncommitted changes" if source.get("dirty") else commit
        case "data":
            found = run.inputs if run else ()
            return ", ".join(f"{each.get('name')} {str(each.get('digest'))[:12]}" for each in found)
        case _:
            return str((run.environment if run else {}).get(name) or "")[:40]


def report(
    comparison: Comparison | None, change: Accepted | None, problem: str | None, accepted: Iterable[str] = ()
) -> str:
    """Return the comment for a pull request: verdict, votes, checks, candidate against champion.

    Args:
        comparison: of a stage change.
        change: what was found out.
        problem: why it is refused, None when it is not.
        accepted: lines about other changes.
    """
    title = markdown(comparison.subject, 150) if comparison else "gml registry"
    lines = [f"### {title}", "", f"**{'not yet' if problem else 'in order'}**" + (
        f": {markdown(problem, 600)}" if problem else ""), ""]  # fmt: skip
    lines += [f"- {markdown(line)}" for line in accepted]
    if change is not None and change.threshold:
        count = sum(vote.counted for vote in change.votes)
        lines.append(f"Approvals: {count} of {change.threshold}")
        for vote in change.votes:
            note = f" ({markdown(vote.why)})" if vote.why else ""
            said = f": {markdown(vote.comment, 300)}" if vote.comment else ""
            lines.append(f"- {markdown(vote.person)}: {vote.type}{note}{said}")
        lines.append("")
    if change is not None and change.checks:
        lines += ["| check | | values |", "|---|---|---|"]
        lines += [
            f"| {markdown(c.rule, 150)} | {'holds' if c.ok else 'fails'} | {markdown(c.detail)} |"
            for c in change.checks
        ]
        lines.append("")
    if comparison is not None:
        lines += comparison.page()
    text = "\n".join(lines).rstrip() + "\n"
    return text if len(text) <= MAX_COMMENT else text[: MAX_COMMENT - 20] + "\n\n(cut)\n"
