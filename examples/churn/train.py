"""Train ten models of who leaves, each a run with its scores and the model; the data are made up here."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import gml

generator = np.random.default_rng(2026)
customers = pd.DataFrame(
    {
        "age": generator.integers(18, 80, 1_000),
        "calls": generator.poisson(2.0, 1_000),
        "spend": generator.gamma(2.0, 20.0, 1_000).round(2),
    }
)
odds = 0.9 * customers["calls"] - 0.05 * customers["spend"] - 0.5
left = (generator.random(1_000) < 1 / (1 + np.exp(-odds))).astype("int64")
train, test = customers[:700], customers[700:]

candidates = {
    f"tree-{depth}": DecisionTreeClassifier(max_depth=depth, random_state=0) for depth in range(1, 7)
}
candidates |= {
    f"linear-{c}": make_pipeline(StandardScaler(), LogisticRegression(C=c)) for c in (0.001, 0.01, 0.1, 1.0)
}

gml.set_experiment("churn")
for name, model in candidates.items():
    with gml.start_run(run_name=name):
        gml.log_params({"kind": name.split("-")[0], "strength": name.split("-")[1]})
        gml.log_input(train, context="train", name="customers")
        model.fit(train, left[:700])
        gml.log_metric("auc", roc_auc_score(left[700:], model.predict_proba(test)[:, 1]))
        gml.sklearn.log_model(model, name="model", input_example=train[:3])

test.to_csv("next_month.csv", index=False)
