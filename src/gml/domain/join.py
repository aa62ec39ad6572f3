"""The deterministic join of two versions of one document.

Two ledgers are merged by the union of their paths. A path has one writer, so both sides hold the same
bytes or one side holds a later revision. Should a copied repository have written the same path twice,
`join` still gives one answer, whatever the order and grouping of merges: it is commutative,
associative and idempotent (a join-semilattice), which tests/domain/test_join.py checks.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gml.domain.run import Document


def join(a: Document, b: Document) -> Document:
    """Return the least document that is at or above both.

    A higher `revision` wins whole: a writer's later version contains its earlier ones. At equal
    revisions maps are united key by key, lists as sets, and single values by a fixed total order.

    Example:
        >>> join({"revision": 1, "tags": {"a": "1"}}, {"revision": 1, "tags": {"b": "2"}})
        {'revision': 1, 'tags': {'a': '1', 'b': '2'}}
    """
    left, right = _revision(a), _revision(b)
    if left != right:
        return a if left > right else b
    out: Document = {}
    for key in sorted(a.keys() | b.keys()):
        if key not in b:
            out[key] = a[key]
        elif key not in a:
            out[key] = b[key]
        elif key == "metrics":
            out[key] = _join_maps(a[key], b[key], deep=False)
        elif key == "hist":
            out[key] = _join_segments(a[key], b[key])
        elif key == "artifacts":
            out[key] = _join_artifacts(a[key], b[key])
        else:
            out[key] = _join_values(a[key], b[key])
    return out


def _revision(document: Document) -> int:
    value = document.get("revision", 0)
    return value if isinstance(value, int) else 0


def canonical(value: Any) -> str:
    """Return the one JSON text of a value that comparisons use."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _rank(value: Any) -> int:
    if isinstance(value, dict):
        return 4
    if isinstance(value, list):
        return 3
    if isinstance(value, str):
        return 2
    return 0 if value is None else 1


def _join_values(a: Any, b: Any) -> Any:
    rank_a, rank_b = _rank(a), _rank(b)
    if rank_a != rank_b:
        return a if rank_a > rank_b else b
    if rank_a == 4:
        return _join_maps(a, b, deep=True)
    if rank_a == 3:
        return _join_lists(a, b)
    return max(a, b, key=canonical)


def _join_maps(a: Any, b: Any, *, deep: bool) -> Any:
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return _join_values(a, b) if _rank(a) != _rank(b) else max(a, b, key=canonical)
    out = {}
    for key in sorted(a.keys() | b.keys()):
        if key not in b:
            out[key] = a[key]
        elif key not in a:
            out[key] = b[key]
        else:
            out[key] = _join_values(a[key], b[key]) if deep else max(a[key], b[key], key=canonical)
    return out


def _join_lists(a: list[Any], b: list[Any]) -> list[Any]:
    if canonical(a) == canonical(b):
        return a
    united = {canonical(item): item for item in (*a, *b)}
    return [united[key] for key in sorted(united)]


def _join_artifacts(a: Any, b: Any) -> Any:
    """Unite manifests; of two files with one name one entry stays whole, in the order of history files."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return _join_values(a, b)
    out = dict(a)
    for name, entry in b.items():
        out[name] = max(out[name], entry, key=_artifact_order) if name in out else entry
    return {name: out[name] for name in sorted(out)}


def _artifact_order(entry: Any) -> tuple[int, int, str, str]:
    if not isinstance(entry, dict):
        return (_rank(entry), 0, "", canonical(entry))
    return (_rank(entry), *segment_order(entry), canonical(entry))


def _join_segments(a: Any, b: Any) -> Any:
    """Unite history segments; of two in git only the greater stays, as only one file has that name."""
    if not (isinstance(a, list) and isinstance(b, list)):
        return _join_values(a, b)
    united = _join_lists(a, b)
    in_git = [s for s in united if isinstance(s, dict) and s.get("at") == "git"]
    if len(in_git) < 2:
        return united
    keep = max(in_git, key=segment_order)
    return [s for s in united if s not in in_git or s == keep]


def segment_order(segment: dict[str, Any]) -> tuple[int, str]:
    """Order of two files with the same path: size, then digest."""
    return (int(segment.get("size", 0)), str(segment.get("sha256", "")))
