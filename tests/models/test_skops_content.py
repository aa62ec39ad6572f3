"""Trees that point outside of themselves are refused before they predict; honest ones of all kinds load."""

import warnings

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestRegressor,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from gml.domain.errors import CorruptError
from gml.models.flavors import skops_content
from gml.models.flavors.sklearn import load_object

X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)


def crafted(change):
    """Return a skops file of a tree whose nodes were changed."""
    model = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, np.arange(60) % 4)
    state = model.tree_.__getstate__()
    nodes = state["nodes"].copy()
    change(nodes)
    state["nodes"] = nodes
    model.tree_.__setstate__(state)
    return skops.io.dumps(model)


def put(field, value):
    def change(nodes):
        nodes[field][0] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("left_child", 1 << 40),
        put("right_child", -7),
        put("left_child", 0),
        put("right_child", -1),
        put("feature", 1 << 20),
        put("feature", -5),
    ],
    ids=["child far away", "child before", "circle", "no child", "feature far away", "feature before"],
)
def test_a_tree_that_points_outside_is_refused(change):
    with pytest.raises(CorruptError, match=r"model\.skops holds a damaged tree"):
        load_object(crafted(change), "skops", "model.skops")


def test_a_tree_of_more_features_than_its_estimator_is_refused():
    model = DecisionTreeClassifier().fit(X, Y)
    model.n_features_in_ = 1
    with pytest.raises(CorruptError, match="a tree of 3 features in an estimator of 1"):
        load_object(skops.io.dumps(model), "skops", "model.skops")
    forest = RandomForestRegressor(2).fit(X, Y)
    forest.n_features_in_ = 1
    with pytest.raises(CorruptError, match="a tree of 3 features in an estimator of 1"):
        load_object(skops.io.dumps(forest), "skops", "model.skops")


@pytest.mark.parametrize("field", ["left", "bitset_idx"])
def test_predictors_of_histograms_are_looked_at(field):
    model = HistGradientBoostingClassifier(max_iter=1, max_depth=2, min_samples_leaf=2).fit(X, Y)
    nodes = model._predictors[0][0].nodes
    nodes[field][0] = 200
    nodes["is_categorical"][0] = field == "bitset_idx"
    with pytest.raises(CorruptError, match="damaged tree"):
        skops_content.check(model, "model")


def test_honest_models_load():
    models = [
        DecisionTreeClassifier().fit(X, Y),
        RandomForestRegressor(3).fit(X, Y),
        GradientBoostingClassifier(n_estimators=3).fit(X, Y),
        HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=2).fit(X, Y),
        IsolationForest(n_estimators=3, max_features=2).fit(X),
        BaggingClassifier(n_estimators=2, max_features=2).fit(X, Y),
        KNeighborsClassifier(algorithm="kd_tree").fit(X, Y),
        KNeighborsClassifier(algorithm="ball_tree").fit(X, Y),
    ]
    for model in models:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = load_object(skops.io.dumps(model), "skops", "model.skops")
        assert (loaded.predict(X) == model.predict(X)).all(), model
