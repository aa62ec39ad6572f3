"""Which types a skops file may hold without anybody's word.

The list in the model's own MLmodel file does not count: whoever crafts a model writes that too.
"""

from __future__ import annotations

import importlib
import io
import sys
import threading
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError
from gml.models.flavor import need

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# skops asks scikit-learn for all of its estimators, which imports these on the way, and with them PyTorch or
# Dask where they are installed: 200 MB and seconds for a model that needs neither.
_ADAPTERS: Final = tuple(f"sklearn.externals.array_api_compat.{name}" for name in ("torch", "dask", "cupy"))
_import_lock: Final = threading.Lock()
# Modules of scikit-learn whose classes only hold numbers: losses, links, binning, trees of histograms.
_INNER: Final = (
    "sklearn._loss.", "sklearn.ensemble._hist_gradient_boosting.", "sklearn.ensemble._gb_losses.",
    "sklearn.tree._", "sklearn.neighbors._", "sklearn.metrics._dist_metrics.", "sklearn.linear_model._",
    "sklearn.utils._bunch.", "sklearn.calibration.", "sklearn.model_selection._split.",
    "sklearn.metrics._scorer._PassthroughScorer", "sklearn.gaussian_process.kernels.",
)  # fmt: skip
_PLAIN: Final = frozenset(
    {
        "numpy.dtype", "collections.OrderedDict", "collections.defaultdict",
        "xgboost.sklearn.XGBClassifier", "xgboost.sklearn.XGBRegressor", "xgboost.sklearn.XGBRanker",
        "xgboost.core.Booster", "lightgbm.sklearn.LGBMClassifier", "lightgbm.sklearn.LGBMRegressor",
        "lightgbm.sklearn.LGBMRanker", "lightgbm.basic.Booster",
    }
)  # fmt: skip


def skops_io() -> Any:
    """Return `skops.io`.

    Raises:
        MissingPackageError: it is not installed.
    """
    if "skops.io" in sys.modules:
        return sys.modules["skops.io"]
    with _import_lock, _without(_ADAPTERS):
        return need("skops.io", "gitml[sklearn]")


@contextmanager
def _without(names: Iterable[str]) -> Iterator[None]:
    """Let modules that are not imported yet seem to be missing."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def types_of(data: bytes) -> list[str]:
    """Return the types of a skops file beyond those that skops itself trusts.

    Raises:
        CorruptError: it is not a skops file.
    """
    try:
        found: list[str] = skops_io().get_untrusted_types(data=_bare(data))
    except Exception as error:
        raise CorruptError(f"not a skops file: {type(error).__name__}: {error}") from error
    return found


def _bare(data: bytes) -> bytes:
    """Return a skops file without what is in its arrays: types stand in the schema, and arrays are large."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as bare:
        for name in archive.namelist():
            bare.writestr(name, archive.read(name) if name == "schema.json" else b"")
    return out.getvalue()


def untrusted(data: bytes, vouched: tuple[str, ...] = ()) -> list[str]:
    """Return the types of a skops file that are neither harmless nor vouched for.

    Raises:
        CorruptError: it is not a skops file.
    """
    return [name for name in types_of(data) if name not in vouched and not harmless(name)]


def harmless(name: str) -> bool:
    """Whether constructing a type cannot do anything: estimators and inner classes of scikit-learn."""
    if name in _PLAIN:
        return True
    if not name.startswith("sklearn."):
        return False
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    if not isinstance(found, type):
        # Functions are called when the model predicts.
        return False
    base = importlib.import_module("sklearn.base").BaseEstimator
    return issubclass(found, base) or name.startswith(_INNER)
