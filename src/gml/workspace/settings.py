"""What a user can set: environment variables win over `git config gml.*`, which wins over defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CODE_MODES: Final = ("snapshot", "patch", "none")
SYNC_MODES: Final = ("direct", "inbox")
_SIZE: Final = re.compile(r"([0-9]{1,15})([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS: Final = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one repository, read once.

    Attributes:
        namespace: middle part of the refs (`gml.namespace`).
        code: what is kept of the code: `snapshot`, `patch` or `none` (`gml.code`, GML_CODE).
        journal_dir: where live runs keep their journals, None for the git directory (GML_JOURNAL_DIR).
        checkpoint: seconds between commits of a running run, 0 turns them off (GML_CHECKPOINT).
        inline_limit: bytes up to which an artifact goes into git (`gml.inlineLimit`).
        artifact_store: URL of the artifact store, None for the git directory (`gml.artifacts.store`).
        artifact_remote: remote that `gml artifacts push` and `pull` mean (`gml.artifacts.defaultRemote`).
        artifact_jobs: files that are transferred at once, None for a number that fits the machine
            (`gml.artifacts.jobs`).
        artifact_cache: bytes up to which local copies of what a remote has are kept, None for all
            (`gml.artifacts.cacheSize`).
        experiment: experiment of runs that name none (GML_EXPERIMENT, `gml.experiment`).
        remote: remote that `gml push` and `gml pull` mean, None for `origin` or the only one (`gml.remote`).
        sync_mode: `direct`: push the shared ledger; `inbox`: each clone its own ref (`gml.sync.mode`).
    """

    namespace: str = "gml"
    code: str = "snapshot"
    journal_dir: Path | None = None
    checkpoint: float = 600.0
    inline_limit: int = 64 * 1024
    artifact_store: str | None = None
    artifact_remote: str | None = None
    artifact_jobs: int | None = None
    artifact_cache: int | None = None
    experiment: str | None = None
    remote: str | None = None
    sync_mode: str = "direct"


def read_settings(config: Callable[[str], str | None], environ: Mapping[str, str]) -> Settings:
    """Return the settings that git config and environment ask for.

    Raises:
        UsageError: a value is not of its kind; the line names the variable.
    """
    code = environ.get("GML_CODE") or config("gml.code") or "snapshot"
    if code not in CODE_MODES:
        raise UsageError(f"gml.code is {code!r}", hint=f"use one of {', '.join(CODE_MODES)}")
    mode = environ.get("GML_SYNC_MODE") or config("gml.sync.mode") or "direct"
    if mode not in SYNC_MODES:
        raise UsageError(f"gml.sync.mode is {mode!r}", hint=f"use one of {', '.join(SYNC_MODES)}")
    journal = environ.get("GML_JOURNAL_DIR")
    inline = config("gml.inlineLimit")
    cache = config("gml.artifacts.cacheSize")
    try:
        checkpoint = float(environ.get("GML_CHECKPOINT") or config("gml.checkpoint") or 600.0)
        inline_limit = int(inline) if inline else 64 * 1024
        jobs = int(config("gml.artifacts.jobs") or 0)
    except ValueError as error:
        raise UsageError(
            f"a number was expected: {error}", hint="see GML_CHECKPOINT and gml.inlineLimit"
        ) from None
    return Settings(
        namespace=config("gml.namespace") or "gml",
        code=code,
        journal_dir=Path(journal).expanduser().absolute() if journal else None,
        checkpoint=checkpoint,
        inline_limit=inline_limit,
        artifact_store=config("gml.artifacts.store"),
        artifact_remote=config("gml.artifacts.defaultRemote"),
        artifact_jobs=jobs or None,
        artifact_cache=parse_size("gml.artifacts.cacheSize", cache) if cache else None,
        experiment=environ.get("GML_EXPERIMENT")
        or environ.get("MLFLOW_EXPERIMENT_NAME")
        or config("gml.experiment"),
        remote=environ.get("GML_REMOTE") or config("gml.remote"),
        sync_mode=mode,
    )


def parse_size(key: str, value: str) -> int:
    """Return a number of bytes: `65536`, `64k`, `20g`.

    Raises:
        UsageError: it is not a size.
    """
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise UsageError(f"{key} cannot be {value!r}", hint="give a size such as 64k, 500m or 20g")
    return int(match[1]) << _UNITS[match[2].lower()]
