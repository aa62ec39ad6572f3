"""Content-addressed bytes on any fsspec file system.

`open_store(url)` gives the `BlobStore` of a URL; see `gml.cas.port` for what a store promises.
"""

from __future__ import annotations

from gml.cas.port import Blob, BlobStore, check_digest
from gml.cas.store import open_store

__all__ = ["Blob", "BlobStore", "check_digest", "open_store"]
