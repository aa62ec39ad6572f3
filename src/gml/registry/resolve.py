"""From a model URI to verified bytes' digests: the one way that consumers take.

models:/churn/4             version 4
models:/churn/Production    what the stage holds
models:/churn/latest        the newest version
models:/churn@champion      what the alias points at
models:/churn@sha256:ab...  the version with this digest
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.domain.errors import AmbiguousError, NotFoundError, UsageError
from gml.policy import names
from gml.policy.records import DELETED
from gml.registry.verify import verify

if TYPE_CHECKING:
    from gml.policy.records import Version
    from gml.registry.branch import Registry, View

SCHEME: Final = "models:/"
_URI: Final = re.compile(r"models:/{1,3}([^/@]+)(?:@([^/@]+)|/([^/@]+))(?:/(.+))?")
_NUMBER: Final = re.compile(r"v?([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a URI means now.

    Attributes:
        uri: as it was given.
        version: the version's record.
        stages: stages that hold it.
        aliases: aliases that point at it.
        commit: commit of the branch that says so.
        approved: stages in which a policy vouches for it.
        subpath: what follows in the URI, empty for nothing.
    """

    uri: str
    version: Version
    stages: tuple[str, ...]
    aliases: tuple[str, ...]
    commit: str
    approved: tuple[str, ...]
    subpath: str = ""

    @property
    def run(self) -> str | None:
        """Id of the run that made it, None for imported versions."""
        return self.version.run

    @property
    def path(self) -> str:
        """Folder or file among the run's artifacts."""
        return self.version.path

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest of its files."""
        return self.version.digest


def resolve(registry: Registry, uri: str, *, at: int | None = None) -> Resolved:
    """Return what a model URI means, after the branch was verified.

    Args:
        registry: the registry.
        uri: such as `models:/churn/Production`.
        at: as of a time, seconds since the epoch; None for now.

    Raises:
        UsageError: the URI is malformed.
        NotFoundError: there is no such model, version, stage or alias.
        PolicyError: the registry is not in order, rolled back, or not the trusted one.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise UsageError(
            f"{uri!r:.200} is not a model URI",
            hint="such as models:/churn/4, models:/churn/Production, models:/churn@champion",
        )
    verified = verify(registry)
    view = registry.view(verified.tip)
    if at is not None:
        from gml.registry.history import view_at

        view = view_at(registry, at)
    name, alias, what, subpath = match.groups()
    model = view.key(name)
    version = _by_alias(view, model, alias) if alias else _by_version_or_stage(view, model, what)
    note = view.model(model).versions.get(str(version.version))
    if note is not None and note.status == DELETED:
        raise NotFoundError(f"{model} v{version.version} was deleted: {note.reason or 'no reason given'}")
    held = tuple(stage for stage, record in view.stages(model).items() if record.version == version.version)
    policy = view.policy
    vouched = tuple(
        s for s in held if policy is not None and s in policy.stages and policy.stages[s].threshold
    )
    aliases = tuple(a for a, n in sorted(view.model(model).aliases.items()) if n == version.version)
    return Resolved(uri, version, held, aliases, view.commit or "", vouched, subpath or "")


def _by_alias(view: View, model: str, alias: str) -> Version:
    if alias.startswith("sha256:"):
        wanted = alias[7:]
        if not re.fullmatch("[0-9a-f]{8,64}", wanted):
            raise UsageError(f"{alias!r:.100} is not a digest", hint="8 to 64 lower-case hexadecimal digits")
        found = [v for v in view.versions(model) if v.digest.startswith(wanted)]
        if not found:
            raise NotFoundError(f"no version of {model} has the digest {wanted}")
        if len({v.digest for v in found}) > 1:
            raise AmbiguousError(f"{wanted} fits {len(found)} versions of {model}", hint="give more digits")
        return found[0]
    known = view.model(model).aliases
    if alias not in known:
        raise NotFoundError(
            f"{model} has no alias {alias!r:.100}", hint=f"it has {', '.join(sorted(known)) or 'none'}"
        )
    return view.version(model, known[alias])


def _by_version_or_stage(view: View, model: str, what: str) -> Version:
    number = _NUMBER.fullmatch(what)
    if number is not None:
        return view.version(model, int(number[1]))
    if what.lower() == "latest":
        newest = next(view.versions(model), None)
        if newest is None:
            raise NotFoundError(f"{model} has no versions")
        return newest
    record = view.stage(model, what) if names.is_stage(what) else None
    if record is None or record.version is None:
        held = [s for s, r in view.stages(model).items() if r.version is not None]
        raise NotFoundError(
            f"{model} has nothing in {what!r:.100}", hint=f"its stages are {', '.join(held) or 'empty'}"
        )
    return view.version(model, record.version)
