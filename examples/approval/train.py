"""A toy training run: the score follows from the depth; the model is a file of weights."""

import sys

import gml

depth = int(sys.argv[1])
with gml.start_run(run_name=f"forest-{depth}"):
    gml.log_param("depth", depth)
    gml.log_metric("auc", 0.80 + depth / 100)
    gml.log_dict({"weights": [0.5, depth / 10]}, "model/weights.json")
