"""What differs between runs: pure functions behind `gml ls` and `gml diff`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.domain.metrics import MetricSummary
    from gml.domain.run import Artifact, Run

# Longer values than this make poor columns.
_SHORT: Final = 24
_SYSTEM: Final = "system/"


def varying(runs: Sequence[Run], section: Literal["params", "metrics"]) -> list[str]:
    """Return the keys whose values differ among runs, the most telling first.

    A key that some of the runs lack differs. First come keys that most runs have, among them short
    values before long ones, then those with most distinct values, then by name; the machine's own
    metrics (`system/...`) come last.

    Args:
        runs: fewer than two have nothing to differ in.
        section: which values are compared; of metrics the last ones.

    Example:
        >>> from gml.domain.run import Run
        >>> a, b = (Run(i, "0", i, "u", "FINISHED", 0, 1, params={"lr": i, "k": "5"}) for i in "ab")
        >>> varying([a, b], "params")
        ['lr']
    """
    found: dict[str, list[Any]] = {}
    for run in runs:
        if section == "params":
            for key, value in run.params.items():
                found.setdefault(key, []).append(value)
        else:
            for key, summary in run.metrics.items():
                found.setdefault(key, []).append(None if math.isnan(summary.last) else summary.last)
    ranked: list[tuple[bool, int, bool, int, str]] = []
    for key, values in found.items():
        distinct = set(values)
        if len(distinct) == 1 and len(values) == len(runs):
            continue
        long = any(isinstance(value, str) and len(value) > _SHORT for value in distinct)
        ranked.append((key.startswith(_SYSTEM), -len(values), long, -len(distinct), key))
    return [key for *_, key in sorted(ranked)] if len(runs) > 1 else []


def diff_maps(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what differs between two maps; each part sorted by key.

    Returns:
        `changed` {key: [in a, in b]}, `only_a` and `only_b` {key: value}.

    Example:
        >>> diff_maps({"lr": "1", "k": "5"}, {"lr": "2", "depth": "3"})
        {'changed': {'lr': ['1', '2']}, 'only_a': {'k': '5'}, 'only_b': {'depth': '3'}}
    """
    return {
        "changed": {key: [a[key], b[key]] for key in sorted(a.keys() & b.keys()) if _differ(a[key], b[key])},
        "only_a": {key: a[key] for key in sorted(a.keys() - b.keys())},
        "only_b": {key: b[key] for key in sorted(b.keys() - a.keys())},
    }


def diff_metrics(a: Mapping[str, MetricSummary], b: Mapping[str, MetricSummary]) -> dict[str, dict[str, Any]]:
    """Return what differs between the last values of metrics.

    Returns:
        As `diff_maps`, and `delta` {key: value in b - value in a} where that is a finite number.

    Example:
        >>> from gml.domain.metrics import MetricSummary as M
        >>> diff_metrics({"auc": M.first(0, 0, 0.5)}, {"auc": M.first(0, 0, 0.75)})["delta"]
        {'auc': 0.25}
    """
    out = diff_maps({k: m.last for k, m in a.items()}, {k: m.last for k, m in b.items()})
    deltas = {key: after - before for key, (before, after) in out["changed"].items()}
    return {**out, "delta": {key: delta for key, delta in deltas.items() if math.isfinite(delta)}}


def diff_artifacts(a: Mapping[str, Artifact], b: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Return which files differ, by digest; where the bytes are kept does not matter.

    Returns:
        As `diff_maps`; a file is `{"sha256": ..., "size": ...}`.

    Example:
        >>> from gml.domain.run import Artifact
        >>> list(diff_artifacts({"m.bin": Artifact("aa", 1)}, {"m.bin": Artifact("bb", 1)})["changed"])
        ['m.bin']
    """
    return diff_maps(_files(a), _files(b))


def diff_environment(full_a: Mapping[str, Any], full_b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what differs between two full environments, as the ledger keeps them.

    Parts that were not captured, or only as an error, count as empty.

    Returns:
        `python` and `platform` as `diff_maps`; `packages` with `added` and `removed` {name: version} and
        `changed` {name: [in a, in b]}.

    Example:
        >>> diff_environment({"packages": {"numpy": "1.26"}}, {"packages": {"numpy": "2.1"}})["packages"]
        {'added': {}, 'removed': {}, 'changed': {'numpy': ['1.26', '2.1']}}
    """
    packages = diff_maps(_part(full_a, "packages"), _part(full_b, "packages"))
    return {
        "python": diff_maps(_part(full_a, "python"), _part(full_b, "python")),
        "platform": diff_maps(_part(full_a, "platform"), _part(full_b, "platform")),
        "packages": {
            "added": packages["only_b"],
            "removed": packages["only_a"],
            "changed": packages["changed"],
        },
    }


def _differ(a: Any, b: Any) -> bool:
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return bool(a != b) and not both_nan


def _files(artifacts: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    return {path: {"sha256": each.sha256, "size": each.size} for path, each in artifacts.items()}


def _part(environment: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = environment.get(key)
    if not isinstance(part, dict) or list(part) == ["error"]:
        return {}
    return part
