"""Runs from a table, a row each: as `gml export`, `mlflow.search_runs().to_csv()` and people write them."""

from __future__ import annotations

import csv
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gml.compat.foreign import ForeignRun, Losses
from gml.compat.gathered import Gathered, fingerprint, made_id
from gml.domain.errors import InvalidValueError, NotFoundError, UsageError
from gml.domain.ids import RUN_ID
from gml.domain.names import TAG_PARENT, check_key
from gml.domain.run import ACTIVE, DELETED, STATUSES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from gml.compat.foreign import Point

_PREFIXED: Final = re.compile(r"(params?|metrics?|tags?)\.(.+)")
_KNOWN: Final = {
    "run_id": "run_id", "run id": "run_id", "id": "run_id", "name": "name", "run_name": "name",
    "experiment": "experiment",
    "status": "status", "user": "user", "user_id": "user", "start_time": "start", "end_time": "end",
    "lifecycle_stage": "stage", "parent_run_id": "parent",
}  # fmt: skip
_IGNORED: Final = frozenset({"experiment_id", "artifact_uri", ""})
_CODE: Final = {
    "code.commit": "mlflow.source.git.commit", "code.branch": "mlflow.source.git.branch",
    "code.dirty": "mlflow.source.git.dirty",
}  # fmt: skip


def read_csv(
    path: Path, experiment: str, params: Collection[str] = (), metrics: Collection[str] = ()
) -> Gathered:
    """Return the runs of a CSV file.

    Args:
        path: the file; separated by commas, semicolons or tabs.
        experiment: of rows that do not say theirs.
        params: columns without the prefix `params.` that are params.
        metrics: columns without the prefix `metrics.` that are metrics.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it is no table, or has columns that it does not say the meaning of.
    """
    losses = Losses()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            mark = max(",;\t", key=head.count)
            reader = csv.DictReader(file, delimiter=mark)
            columns = _columns(reader.fieldnames or [], params, metrics)
            runs = [
                _run(path, number, row, columns, experiment, losses)
                for number, row in enumerate(reader, 1)
                if any(value for value in row.values() if isinstance(value, str))
            ]
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV ({error})") from error
    return Gathered(str(path), [run for run in runs if run is not None], losses)


def _columns(
    names: Collection[str], params: Collection[str], metrics: Collection[str]
) -> dict[str, tuple[str, str]]:
    """Return column -> what it is (`param`, `metric`, `tag` or a field), and its key."""
    found: dict[str, tuple[str, str]] = {}
    strange = []
    for name in names:
        match = _PREFIXED.fullmatch(name)
        if name in params:
            found[name] = ("param", name)
        elif name in metrics:
            found[name] = ("metric", name)
        elif match is not None:
            found[name] = (match[1].rstrip("s"), match[2])
        elif name in _CODE:
            found[name] = ("tag", _CODE[name])
        elif name.lower() in _KNOWN:
            found[name] = ("field", _KNOWN[name.lower()])
        elif name not in _IGNORED:
            strange.append(name)
    missing = [name for name in (*params, *metrics) if name not in names]
    if missing:
        raise UsageError(f"there is no column {missing[0]!r}", hint=f"it has {', '.join(names)[:200]}")
    if strange:
        raise UsageError(
            f"the column {strange[0]!r} may be a param or a metric",
            hint="say which: --param NAME, --metric NAME, or call it params.NAME or metrics.NAME",
        )
    if not found:
        raise UsageError("this is no table of runs", hint="the first line names the columns")
    return found


def _run(
    path: Path,
    number: int,
    row: Mapping[str, str | None],
    columns: Mapping[str, tuple[str, str]],
    experiment: str,
    losses: Losses,
) -> ForeignRun | None:
    fields: dict[str, str] = {}
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    points: list[tuple[str, float]] = []
    for column, (kind, key) in columns.items():
        text = row.get(column)
        if not text:
            continue
        if kind == "field":
            fields[key] = text
            continue
        try:
            check_key(key, kind)
            if kind == "metric":
                points.append((key, float(text)))
            else:
                (params if kind == "param" else tags)[key] = text
        except InvalidValueError:
            losses.add("columns whose names no key can have", column)
        except ValueError:
            losses.add("cells that are no numbers", f"{column} in row {number}: {text[:40]}")
    run_id = fields.get("run_id") or made_id("csv", path.name, number)
    if not RUN_ID.fullmatch(run_id):
        losses.add("rows whose run id is none", run_id[:60])
        return None
    start, end = _time(fields.get("start"), losses), _time(fields.get("end"), losses)
    if fields.get("parent"):
        tags[TAG_PARENT] = fields["parent"]
    status = fields.get("status", "FINISHED").upper()
    stamp = end or start or 0
    given: list[Point] = [(key, value, stamp, 0) for key, value in points]
    return ForeignRun(
        run_id,
        fields.get("experiment") or experiment,
        fields.get("name", "") or tags.get("mlflow.runName", ""),
        fields.get("user", ""),
        status if status in STATUSES else "FINISHED",
        start or end or 0,
        end or (None if status == "RUNNING" else start or 0),
        DELETED if fields.get("stage") == DELETED else ACTIVE,
        params,
        tags,
        lambda: given,
        fingerprint=fingerprint(sorted(row.items(), key=str), experiment),
    )


def _time(text: str | None, losses: Losses) -> int | None:
    """Return milliseconds since the epoch of a number or an ISO time."""
    if not text:
        return None
    try:
        value = float(text)
        if math.isfinite(value):
            # Seconds, if it is not in the year 33658.
            return int(value if abs(value) > 1e11 else value * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        losses.add("times that cannot be read", text[:40])
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
