"""What skops loads without a look: indices in trees, which scikit-learn follows without checking them.

A tree whose nodes point outside of it makes `predict` read memory that is not its own. Such a model is
refused after it was loaded and before it predicts.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ATOMS: Final = (str, bytes, int, float, complex, bool, type(None), type)


def check(model: Any, origin: str) -> None:
    """Look at each tree of a model.

    Raises:
        CorruptError: one would be read outside of its nodes or of the data.
    """
    for found in _objects(model):
        reason = _judge(found)
        if reason:
            raise CorruptError(f"{origin} holds a damaged tree: {reason}")


def _objects(model: Any) -> Iterator[Any]:
    """Return everything that a model refers to, itself included; classes, modules and functions aside."""
    import types

    leave = (*_ATOMS, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
    seen: set[int] = set()
    stack = [model]
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, leave):
            continue
        seen.add(id(one))
        yield one
        stack.extend(gc.get_referents(one))
        state = getattr(one, "__dict__", None)
        if state:
            stack.append(state)


def _judge(found: Any) -> str | None:
    kind = f"{type(found).__module__}.{type(found).__name__}"
    if kind == "sklearn.tree._tree.Tree":
        return _tree(found)
    if kind == "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor":
        return _predictor(found)
    if kind.startswith(("sklearn.neighbors._kd_tree.", "sklearn.neighbors._ball_tree.")):
        return _neighbors(found)
    owned = getattr(found, "tree_", None)
    width = getattr(found, "n_features_in_", None)
    if owned is not None and hasattr(owned, "n_features") and owned.n_features != width:
        return f"a tree of {owned.n_features} features in an estimator of {width}"
    if kind.startswith(("sklearn.ensemble._forest.", "sklearn.ensemble._gb.", "sklearn.ensemble._iforest.")):
        return _ensemble(found, width)
    return None


def _ensemble(found: Any, width: Any) -> str | None:
    import numpy as np

    if hasattr(found, "estimators_features_"):
        # Each of its trees sees columns that it picks itself.
        return None
    for one in np.asarray(getattr(found, "estimators_", []), dtype=object).reshape(-1):
        if getattr(one, "n_features_in_", width) != width:
            return f"a tree of {one.n_features_in_} features in an estimator of {width}"
    return None


def _tree(tree: Any) -> str | None:
    import numpy as np

    left, right, feature = tree.children_left, tree.children_right, tree.feature
    leaves = left == -1
    inner = ~leaves
    at = np.arange(tree.node_count)
    if (right[leaves] != -1).any():
        return "a node with one child"
    for side in (left, right):
        # scikit-learn writes children behind their parents, so nothing can go round in a circle.
        if (side[inner] <= at[inner]).any() or (side[inner] >= tree.node_count).any():
            return "a child that is no node"
    if (feature[inner] < 0).any() or (feature[inner] >= tree.n_features).any():
        return "a feature that is none"
    return None


def _predictor(found: Any) -> str | None:
    import numpy as np

    nodes = found.nodes
    inner = nodes["is_leaf"] == 0
    at = np.arange(len(nodes))
    for side in ("left", "right"):
        child = nodes[side].astype("int64")
        if (child[inner] <= at[inner]).any() or (child[inner] >= len(nodes)).any():
            return "a child that is no node"
    sets = nodes["bitset_idx"][inner & (nodes["is_categorical"] != 0)]
    if len(sets) and sets.max() >= min(len(found.binned_left_cat_bitsets), len(found.raw_left_cat_bitsets)):
        return "a set of categories that is none"
    return None


def _neighbors(found: Any) -> str | None:
    import numpy as np

    data, index, nodes, *_ = (np.asarray(one) for one in found.get_arrays())
    if len(index) != len(data) or (index < 0).any() or (index >= len(data)).any():
        return "a point that is none"
    start, end = nodes["idx_start"], nodes["idx_end"]
    if (start < 0).any() or (end > len(data)).any() or (start > end).any():
        return "a node with points that are none"
    return None
