"""What the commands of the registry share: opening it, and reading `v4`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import open_workspace

if TYPE_CHECKING:
    from gml.policy.records import Version
    from gml.registry.branch import Registry, View

key_option = click.option(
    "--key", metavar="FILE", help="SSH key to sign with (default: gml.signingKey, or the one git signs with)."
)


def open_registry() -> Registry:
    """Open the registry of the repository of `-C`, GML_REPO or the current directory."""
    from gml.registry.branch import Registry

    return Registry(open_workspace())


class VersionNumber(click.ParamType):  # type: ignore[type-arg]
    """A version number: `4` or `v4`."""

    name = "version"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        match = re.fullmatch(r"v?([1-9][0-9]{0,8})", str(value))
        if match is None:
            self.fail(f"{value!r} is not a version such as 4 or v4", param, ctx)
        return int(match[1])


class VersionOrNone(VersionNumber):
    """A version number, or `none` for nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, 0 for `none`."""
        return 0 if str(value) == "none" else super().convert(value, param, ctx)


VERSION = VersionNumber()
VERSION_OR_NONE = VersionOrNone()


def version_json(view: View, version: Version) -> dict[str, Any]:
    """Return a version in the documented JSON shape."""
    model = view.model(version.model)
    note = model.versions.get(str(version.version))
    description = note.description if note and note.description is not None else version.description
    return {
        "model": version.model,
        "version": version.version,
        "run": version.run,
        "experiment_id": version.experiment,
        "path": version.path,
        "digest": version.digest,
        "files": version.files,
        "size": version.size,
        "format": version.format_class,
        "created": version.created,
        "creator": version.creator,
        "signed": version.signature is not None,
        "description": description,
        "tags": dict(note.tags) if note else {},
        "status": note.status if note and note.status else "active",
        "reason": note.reason if note else "",
        "stages": [s for s, r in view.stages(version.model).items() if r.version == version.version],
        "aliases": [a for a, n in sorted(model.aliases.items()) if n == version.version],
        "imported": dict(version.imported) if version.imported is not None else None,
    }
