"""Train three forests on the breast-cancer data and record each as a run."""

import joblib
import matplotlib as mpl
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import RocCurveDisplay, accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split

import gml

mpl.use("agg")

data = load_breast_cancer(as_frame=True)
x_train, x_test, y_train, y_test = train_test_split(data.data, data.target, test_size=0.3, random_state=0)

gml.set_experiment("breast-cancer")
for depth in (1, 3, 6):
    with gml.start_run(run_name=f"forest-{depth}"):
        params = {"n_estimators": 20, "max_depth": depth, "random_state": 0}
        gml.log_params(params)
        gml.log_input(x_train, context="train", name="breast-cancer")

        model = RandomForestClassifier(**params).fit(x_train, y_train)
        scores = model.predict_proba(x_test)[:, 1]
        gml.log_metrics(
            {
                "auc": roc_auc_score(y_test, scores),
                "accuracy": accuracy_score(y_test, model.predict(x_test)),
            }
        )

        figure = RocCurveDisplay.from_predictions(y_test, scores).figure_
        gml.log_figure(figure, "plots/roc.png")
        gml.log_table(
            {"feature": list(data.feature_names), "importance": model.feature_importances_.tolist()},
            "importances.json",
        )
        joblib.dump(model, "model.joblib")
        gml.log_artifact("model.joblib", "model")
        print(f"depth {depth}: auc {roc_auc_score(y_test, scores):.4f}")
