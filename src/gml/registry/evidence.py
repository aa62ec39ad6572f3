"""What a decision asks about the world, answered from the ledger and by cryptography."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError
from gml.domain.run import fold
from gml.ledger import layout
from gml.ledger.codec import decode
from gml.ledger.view import LedgerView
from gml.policy.errors import RefusedError
from gml.policy.records import CODE, DATA, UNKNOWN
from gml.policy.view import CheckResult
from gml.registry import keys
from gml.registry.manifest import format_class, manifest, manifest_digest

if TYPE_CHECKING:
    from gml.domain.run import Run
    from gml.git.port import GitStore
    from gml.policy.records import Version
    from gml.policy.sshsig import PublicKey, SshSignature

_CHAMPION: Final = re.compile(
    r"\bchampion\.(metrics?|params?|tags?)\.(`[^`]+`|[\w/:-]+(?:\.[\w/:-]+)*)"
    r"(?:\s+([-+*])\s+((?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?))?"
)
_ARTIFACT: Final = re.compile(r"\bartifact\.(format|size|files)\b")
_WORST: Final = {DATA: 0, UNKNOWN: 1, CODE: 2}


def _rank(name: str) -> int:
    return _WORST.get(name, 2)


class LedgerEvidence:
    """`gml.policy.view.Evidence` over the runs of one repository.

    Args:
        store: the repository.
        ledger: commit of the ledger to read runs from, None for an empty one.
    """

    def __init__(self, store: GitStore, ledger: str | None) -> None:
        self._store = store
        self._ledger = ledger
        self._opened: LedgerView | None = None
        self._classes: dict[str, str] = {}
        self._runs: dict[str, tuple[Run | None, str | None]] = {}

    @property
    def _view(self) -> LedgerView:
        if self._opened is None:
            self._opened = LedgerView(self._store, self._ledger)
        return self._opened

    def signed(self, key: PublicKey, message: bytes, signature: SshSignature) -> bool:
        """See `Evidence.signed`."""
        return keys.verify(key, message, signature)

    def run(self, version: Version) -> Run | None:
        """Return the run of a version as it was when it was registered, None where it is not here."""
        return self._look(version)[0]

    def problem(self, version: Version) -> str | None:
        """See `Evidence.problem`."""
        return self._look(version)[1]

    def _look(self, version: Version) -> tuple[Run | None, str | None]:
        if version.run is None:
            return None, None
        mark = f"{version.run} {version.digest} {sorted(version.documents.items())}"
        if mark not in self._runs:
            try:
                self._runs[mark] = self._read(version, version.run)
            except GmlError as error:
                self._runs[mark] = None, f"the run cannot be read ({error.message})"
        return self._runs[mark]

    def _read(self, version: Version, run_id: str) -> tuple[Run | None, str | None]:
        base = layout.run_base(run_id)
        record, edits = None, []
        for path, digest in version.documents.items():
            if path != f"{base}.json" and not path.startswith(f"{base}/edits/"):
                return None, f"{path} is not a document of run {run_id}"
            data = self._view.read(path)
            if data is None:
                return None, None
            if hashlib.sha256(data).hexdigest() != digest:
                return None, f"{path} in the ledger is not the one that was registered"
            document = decode(data, path)
            self._view._add_manifest(document)  # noqa: SLF001
            if path == f"{base}.json":
                record = document
            else:
                edits.append(document)
        if record is None:
            return None, None
        run = fold(run_id, record, edits)
        if manifest_digest(manifest(run, version.path)) != version.digest:
            return None, f"the digest is not that of the files of run {run_id} below {version.path!r}"
        if version.experiment not in {None, run.experiment_id}:
            return None, f"run {run_id} is not in experiment {version.experiment}"
        return run, None

    def format_class(self, version: Version) -> str:
        """See `Evidence.format_class`."""
        run = self.run(version)
        if run is None:
            return version.format_class
        mark = f"{run.run_id} {version.path}"
        if mark not in self._classes:
            from gml.registry.formats import judge_in_git

            seen = (format_class(manifest(run, version.path)), judge_in_git(self._view, run, version.path))
            self._classes[mark] = max(seen, key=_rank)
        return max(version.format_class, self._classes[mark], key=_rank)

    def check(self, rule: str, version: Version, champion: Version | None) -> CheckResult:
        """See `Evidence.check`."""
        run = self.run(version)
        if run is None:
            return CheckResult(rule, ok=False, detail="the run is not in the ledger here; push it first")
        if "champion." in rule and champion is None:
            return CheckResult(rule, ok=True, detail="the stage is empty, there is nothing to compare with")
        before = self.run(champion) if champion is not None else None
        if "champion." in rule and before is None:
            return CheckResult(rule, ok=False, detail="the champion's run is not in the ledger here")
        try:
            return self._evaluate(rule, version, run, before)
        except GmlError as error:
            return CheckResult(rule, ok=False, detail=error.message)

    def _evaluate(self, rule: str, version: Version, run: Run, before: Run | None) -> CheckResult:
        from gml.index.query import matches
        from gml.index.query.fields import Context, getter
        from gml.index.query.unparse import unparse_field

        text = _CHAMPION.sub(lambda match: _literal(match, before), rule)
        query = parse_rule(text)
        facts = {
            "gml.artifact.format": self.format_class(version),
            "gml.artifact.size": str(version.size),
            "gml.artifact.files": str(version.files),
        }
        seen = replace(run, tags={**run.tags, **facts})
        experiment = self._view.experiment(run.experiment_id)
        name = experiment.name if experiment is not None else None
        context = Context(name, None)
        values: dict[str, Any] = {unparse_field(f): getter(f)(seen, context) for f in query.fields()}
        shown = ", ".join(
            f"{key} is {'missing' if value is None else value}" for key, value in values.items()
        )
        shown = shown.replace("tags.gml.artifact.", "artifact.")
        if text != rule:
            shown += f", compared: {text}"
        return CheckResult(rule, matches(query, seen, experiment_name=name, now_ms=0), shown)


def _literal(match: re.Match[str], before: Run | None) -> str:
    from gml.index.query import ast
    from gml.index.query.fields import number_of
    from gml.index.query.unparse import unparse_literal

    entity, key, operator, amount = match.groups()
    key = key.strip("`")
    value: Any = None
    if before is not None and entity.startswith("metric"):
        summary = before.metrics.get(key)
        value = summary.last if summary is not None else None
    elif before is not None:
        value = (before.params if entity.startswith("param") else before.tags).get(key)
    if value is None:
        raise RefusedError("checks", f"the champion has no {entity}.{key}")
    if operator is None and isinstance(value, str):
        return value if number_of(value) is not None else unparse_literal(ast.Text(value))
    try:
        number = float(value)
    except ValueError:
        raise RefusedError("checks", f"the champion's {entity}.{key} is no number: {value!r:.40}") from None
    if operator is not None:
        step = float(amount)
        number = number + step if operator == "+" else number - step if operator == "-" else number * step
    return repr(number)


def parse_rule(rule: str) -> Any:
    """Return a condition of a policy as a query; values of a champion must have been filled in.

    Raises:
        QueryError: it is not in the grammar of queries.
        RefusedError: it would mean something else every day, or needs metric points.
    """
    from gml.index.query import ast, parse

    query = parse(_ARTIFACT.sub(r"tags.`gml.artifact.\1`", rule))
    if query.needs_history:
        raise RefusedError("checks", f"{rule!r:.100} asks for a metric at a step, which checks cannot")
    pending: list[Any] = [query.expression]
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.And, ast.Or)):
            pending += node.terms
        elif isinstance(node, ast.Not):
            pending.append(node.term)
        elif isinstance(node, ast.Membership):
            pending += node.values
        elif isinstance(node, ast.Between):
            pending += [node.low, node.high]
        elif isinstance(node, ast.Comparison):
            pending.append(node.value)
        elif isinstance(node, (ast.Relative, ast.Day)):
            raise RefusedError("checks", f"{rule!r:.100} means something else every day; use a date")
        elif node is None:
            raise RefusedError("checks", "a check is empty")
    return query


def check_rule(rule: str) -> None:
    """Refuse a condition that could never be evaluated; called before it goes into a policy.

    Raises:
        QueryError: it is not in the grammar of queries.
        RefusedError: it would mean something else every day, or needs metric points.
    """
    parse_rule(_CHAMPION.sub("0", rule))
