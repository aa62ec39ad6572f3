"""Following a stage: each verified change is handed over once, in order, also after a restart.

What was handed over is kept beside the repository, by model, stage and name of the follower. It is written
after the hand-over went well: a crash in between means that the change is handed over again, a failure that
it is tried again; never that it is lost.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from gml.domain.errors import CorruptError, NotFoundError
from gml.fs import locked, write_atomic
from gml.registry.history import stage_changes
from gml.registry.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gml.registry.branch import Registry
    from gml.registry.history import StageChange


@dataclass(frozen=True, slots=True)
class Turn:
    """One verified change of a stage.

    Attributes:
        model: name of the model.
        stage: name of the stage.
        seq: turn of the stage.
        version: version that it holds from then on, None for nothing.
        digest: SHA-256 of the manifest of its files, None for nothing.
        before: version that it held, None for nothing.
        run: id of the run that made the version; None for nothing and for imported versions.
        commit: commit of the registry's branch.
    """

    model: str
    stage: str
    seq: int
    version: int | None
    digest: str | None
    before: int | None
    run: str | None
    commit: str

    def variables(self) -> dict[str, str]:
        """Return the change as environment variables, empty texts for nothing."""
        return {
            f"GML_{key.upper()}": "" if value is None else str(value) for key, value in asdict(self).items()
        }


def follow(
    registry: Registry,
    name: str,
    stage: str,
    hand_over: Callable[[Turn], bool],
    *,
    follower: str = "default",
    only_new: bool = False,
    memory: Path | None = None,
) -> int:
    """Hand over the changes that were not handed over yet; returns how many were.

    Args:
        registry: the registry; it is verified first.
        name: of the model.
        stage: name of the stage.
        hand_over: does something about a change and says whether that went well; the first failure ends
            this call.
        follower: each has a memory of its own.
        only_new: the first time, what the stage holds already is taken as known. Otherwise that is the first
            change, without those before it.
        memory: directory to remember in, for clones that are thrown away; beside the repository by default.

    Raises:
        NotFoundError: there is no such model.
        PolicyError: the registry is not in order, was rolled back, or is not the trusted one.
    """
    view = registry.view(verify(registry).tip)
    model = view.key(name)
    mark = hashlib.sha256(json.dumps([model, stage, follower]).encode()).hexdigest()[:16]
    path = (memory or registry.workspace.state_dir / "registry") / f"watch-{mark}.json"
    with locked(path.with_suffix(".lock")):
        seen = _seen(path)
        changes: list[StageChange] = []
        before: dict[int, int | None] = {}
        for change in stage_changes(registry, view, model, stage):
            if changes:
                before[changes[-1].record.seq] = change.record.version
            if (seen is not None and change.record.seq <= seen) or (seen is None and changes):
                break
            changes.append(change)
        if seen is None and only_new:
            _remember(path, changes[0].record.seq if changes else 0)
            return 0
        count = 0
        for change in reversed(changes):
            record = change.record
            version = view.version(model, record.version) if record.version is not None else None
            run = version.run if version else None
            turn = Turn(
                model,
                stage,
                record.seq,
                record.version,
                record.digest,
                before.get(record.seq),
                run,
                change.commit,
            )
            if not hand_over(turn):
                break
            _remember(path, record.seq)
            count += 1
        return count


def _seen(path: Path) -> int | None:
    try:
        return int(json.loads(path.read_text("utf-8"))["seq"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Guessing would run a deployment twice, or never.
        raise CorruptError(f"{path} cannot be read ({error})", hint="remove it to start again") from None


def _remember(path: Path, seq: int) -> None:
    write_atomic(path, json.dumps({"seq": seq}).encode())


def check_watched(registry: Registry, name: str, stage: str) -> None:
    """Refuse a model or stage that is not there yet and looks like a slip.

    Raises:
        NotFoundError: there is no such model.
        PolicyError: the policy has no such stage; names the nearest.
    """
    from gml.registry.stages import check_known_stage

    view = registry.view()
    if view.commit is None:
        raise NotFoundError("there is no registry here", hint="`gml pull` brings it")
    view.key(name)
    check_known_stage(view, stage)
