"""The installed packages of a Python, read from the names of their metadata folders.

`importlib.metadata` opens and parses one file a package; the folder name says the same and costs one
listing. Only where it cannot say it (old egg links, odd versions) is the file read.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SEPARATORS = re.compile(r"[-_.]+")
_DIST_INFO = re.compile(r"([A-Za-z0-9][\w.]*)-(\d[A-Za-z0-9.!+]*)\.dist-info")


def normalised_name(name: str) -> str:
    """Return a package name as all tools compare it: lower case, runs of `-_.` as one dash.

    Example:
        >>> normalised_name("Typing_Extensions")
        'typing-extensions'
    """
    return _SEPARATORS.sub("-", name).lower()


def installed_packages(path: Iterable[str]) -> dict[str, str]:
    """Return `{name: version}` of what lies on an import path, sorted, the first of a name winning.

    Args:
        path: folders in the order of `sys.path`; others are passed over.
    """
    found: dict[str, str] = {}
    for folder in dict.fromkeys(entry or "." for entry in path):
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - names only: this is on the way to every run
        except OSError:  # zip files, folders that are gone
            names = []
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                package, version = _package(folder, name)
                if package:
                    found.setdefault(normalised_name(package), version)
        if folder.endswith(".egg"):
            package, version = _from_egg(folder)
            if package:
                found.setdefault(normalised_name(package), version)
    return dict(sorted(found.items()))


def packages_digest(packages: Mapping[str, str]) -> str:
    """Return the SHA-256 over the sorted lines `name==version`, each ended by a newline.

    Example:
        >>> packages_digest({}) == hashlib.sha256(b"").hexdigest()
        True
    """
    lines = "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))
    return hashlib.sha256(lines.encode("utf-8", "replace")).hexdigest()


def _package(folder: str, name: str) -> tuple[str, str]:
    place = Path(folder, name)
    if name.endswith(".dist-info"):
        # A folder without METADATA is what a broken uninstall leaves.
        if (match := _DIST_INFO.fullmatch(name)) and os.path.exists(f"{folder}/{name}/METADATA"):  # noqa: PTH110
            return match[1], match[2]
        return _from_metadata(place / "METADATA") if not name.startswith("~") else ("", "")
    return _from_metadata(place / "PKG-INFO" if place.is_dir() else place)


def _from_metadata(path: Path) -> tuple[str, str]:
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return "", ""
    return _from_headers(text)


def _from_egg(folder: str) -> tuple[str, str]:
    """Read an `.egg` on the path, which is a folder or a zip file."""
    import zipfile

    try:
        if not zipfile.is_zipfile(folder):
            return _from_metadata(Path(folder, "EGG-INFO", "PKG-INFO"))
        with zipfile.ZipFile(folder) as archive:
            return _from_headers(archive.read("EGG-INFO/PKG-INFO").decode("utf-8", "replace"))
    except (OSError, KeyError, zipfile.BadZipFile):
        return "", ""


def _from_headers(text: str) -> tuple[str, str]:
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            break
        key, colon, value = line.partition(":")
        if colon and key.lower() in {"name", "version"}:
            fields.setdefault(key.lower(), value.strip())
    return fields.get("name", ""), fields.get("version", "")
