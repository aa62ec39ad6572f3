"""Calls every public function of MLflow that concerns a store, and says what came of it.

    python tests/compat/parity.py probe URI                    # one store: JSON of name -> result
    python tests/compat/parity.py table [docs/mlflow.md]       # the table, printed or written into the page

Needs MLflow. A function is "same" when gml and MLflow's own SQLite store answer a call with the same; nothing
is called same that was not called.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

# What no call can tell: functions that do not ask the store, and kinds of things that gml does not have.
LOCAL = {
    "active_run", "autolog", "clear_active_model", "context", "disable_system_metrics_logging", "doctor",
    "enable_system_metrics_logging", "flush_trace_async_logging", "get_active_model_id", "get_active_trace_id",
    "get_current_active_span", "get_last_active_trace_id", "get_registry_uri", "get_tracking_uri",
    "import_checkpoints", "is_tracking_uri_set", "login", "maybe_hint_tracing_skill", "set_registry_uri",
    "set_system_metrics_node_id", "set_system_metrics_samples_before_logging",
    "set_system_metrics_sampling_interval", "set_telemetry_client", "set_tracking_uri",
    "validate_evaluation_results", "get_model_version_stages", "parse_prompt_uri",
    "add_databricks_profile_info_to_artifact_uri", "get_artifact_repository", "from_huggingface", "from_numpy",
    "from_pandas", "from_spark", "from_tensorflow", "load_delta", "run", "evaluate", "test", "log_stream",
}  # fmt: skip
ABSENT = (
    ("mcp", "MCP servers"), ("workspace", "workspaces"), ("webhook", "webhooks"), ("trace", "traces"),
    ("span", "traces"), ("session", "traces"), ("assessment", "traces"), ("feedback", "traces"),
    ("expectation", "traces"), ("issue", "traces"),
    ("dataset", "evaluation data sets"),
)  # fmt: skip
NOTES = {
    "rename_registered_model": "the old name goes on to work",
    "delete_registered_model": "numbers go on if it is made again",
    "set_terminated": "",
}


def mask(value):
    """Return a value without what differs from store to store: ids, places and times."""
    text = json.dumps(value, default=str, sort_keys=True)
    text = re.sub(r"m-[0-9a-f]{32}|\b[0-9a-f]{32}\b|\b\d{13}\b|\b\d{18}\b", "ID", text)
    return re.sub(r'"(?:gml|file|mlflow-artifacts)?:?/[^"]*"', '"URI"', text)


def probes():
    """Return name -> function that calls it; they run in this order, and go on from each other."""
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelInput, LoggedModelOutput, Metric, Param, RunTag

    c = MlflowClient()
    s = {}
    place = Path(tempfile.mkdtemp())
    (place / "dir/sub").mkdir(parents=True)
    (place / "dir/sub/f.txt").write_text("f")
    (place / "one.txt").write_text("1")

    def run_of(run):
        tags = {
            k: v
            for k, v in run.data.tags.items()
            if not k.startswith(("mlflow.source", "mlflow.user", "gml."))
        }
        metrics = {k: "nan" if math.isnan(v) else v for k, v in run.data.metrics.items()}
        return [run.info.run_name, run.info.status, run.info.lifecycle_stage, run.data.params, metrics, tags]

    def ids(found):
        return sorted(e.name for e in found)

    def model_of(m):
        return [m.name, str(m.status), m.tags.get("k"), m.params, m.model_type or ""]

    def version_of(v):
        return [
            v.name,
            str(v.version),
            v.current_stage,
            v.description or "",
            v.tags,
            sorted(v.aliases),
            v.status,
        ]

    def has_image():
        import numpy as np

        mlflow.log_image(np.zeros((4, 4, 3), dtype="uint8"), "image.png")
        return mlflow.artifacts.load_image(mlflow.get_artifact_uri("image.png")).size

    def figure(log):
        import matplotlib as mpl

        mpl.use("agg")
        from matplotlib.figure import Figure

        log(Figure(), "figure.png")

    def start():
        mlflow.set_experiment("probe")
        s["run"] = mlflow.start_run(run_name="one")
        s["id"] = s["run"].info.run_id
        s["exp"] = s["run"].info.experiment_id
        return run_of(s["run"])

    def dataset():
        import numpy as np

        return mlflow.data.from_numpy(np.arange(4.0), name="d")

    def external():
        s["model"] = mlflow.create_external_model(
            name="ext", params={"p": "1"}, tags={"k": "v"}, model_type="a"
        )
        return model_of(s["model"])

    def batch():
        c.log_batch(s["id"], [Metric("b", 1.0, 1, 1)], [Param("bp", "1")], [RunTag("bt", "1")])
        return run_of(c.get_run(s["id"]))

    def made_version():
        s["v"] = c.create_model_version(
            "m", f"models:/{s['lm'].model_id}", s["id"], tags={"k": "v"}, model_id=s["lm"].model_id
        )
        return version_of(s["v"])

    def logged():
        s["lm"] = c.create_logged_model(
            s["exp"], name="lm", source_run_id=s["id"], tags={"k": "v"}, params={"p": "1"}
        )
        return model_of(s["lm"])

    fluent = {
        "set_experiment": lambda: mlflow.set_experiment("probe").name,
        "start_run": start,
        "log_param": lambda: mlflow.log_param("p", 1),
        "log_params": lambda: mlflow.log_params({"q": 2, "r": "x"}),
        "log_metric": lambda: mlflow.log_metric("m", 0.5, step=2) and None,
        "log_metrics": lambda: mlflow.log_metrics({"n": 1.0, "o": math.nan}) and None,
        "set_tag": lambda: mlflow.set_tag("t", "v"),
        "set_tags": lambda: mlflow.set_tags({"u": 1, "w": "x"}),
        "delete_tag": lambda: mlflow.delete_tag("w"),
        "get_run": lambda: run_of(mlflow.get_run(s["id"])),
        "log_text": lambda: mlflow.log_text("text", "a/t.txt"),
        "log_dict": lambda: mlflow.log_dict({"a": 1}, "d.json"),
        "log_artifact": lambda: mlflow.log_artifact(str(place / "one.txt"), "x"),
        "log_artifacts": lambda: mlflow.log_artifacts(str(place / "dir"), "y"),
        "log_figure": lambda: figure(mlflow.log_figure),
        "log_image": has_image,
        "log_table": lambda: mlflow.log_table({"a": [1, 2]}, "table.json"),
        "load_table": lambda: [int(a) for a in mlflow.load_table("table.json", run_ids=[s["id"]])["a"]],
        "get_artifact_uri": lambda: bool(mlflow.get_artifact_uri("x")),
        "log_input": lambda: mlflow.log_input(dataset(), context="train"),
        "log_inputs": lambda: mlflow.log_inputs([dataset()], ["eval"], [{"k": "v"}]),
        "flush_artifact_async_logging": mlflow.flush_artifact_async_logging,
        "flush_async_logging": mlflow.flush_async_logging,
        "create_external_model": external,
        "initialize_logged_model": lambda: model_of(mlflow.initialize_logged_model(name="init")),
        "finalize_logged_model": lambda: model_of(mlflow.finalize_logged_model(s["model"].model_id, "READY")),
        "get_logged_model": lambda: model_of(mlflow.get_logged_model(s["model"].model_id)),
        "last_logged_model": lambda: mlflow.last_logged_model() is not None,
        "set_active_model": lambda: (
            bool(mlflow.set_active_model(name="active").model_id) and mlflow.clear_active_model()
        ),
        "log_model_params": lambda: mlflow.log_model_params({"z": "1"}, s["model"].model_id),
        "set_logged_model_tags": lambda: mlflow.set_logged_model_tags(s["model"].model_id, {"k2": "v"}),
        "delete_logged_model_tag": lambda: mlflow.delete_logged_model_tag(s["model"].model_id, "k2"),
        "search_logged_models": lambda: ids(
            mlflow.search_logged_models(experiment_ids=[s["exp"]], output_format="list")
        ),
        "log_outputs": lambda: mlflow.log_outputs([LoggedModelOutput(s["model"].model_id, 3)]),
        "get_parent_run": lambda: mlflow.get_parent_run(s["id"]),
        "end_run": mlflow.end_run,
        "last_active_run": lambda: run_of(mlflow.last_active_run()),
        "search_runs": lambda: list(mlflow.search_runs([s["exp"]], "metrics.m > 0.1")["params.p"]),
        "create_experiment": lambda: bool(mlflow.create_experiment("second", tags={"a": "b"})),
        "get_experiment": lambda: mlflow.get_experiment(s["exp"]).name,
        "get_experiment_by_name": lambda: mlflow.get_experiment_by_name("second").tags,
        "search_experiments": lambda: ids(mlflow.search_experiments()),
        "set_experiment_tag": lambda: mlflow.set_experiment_tag("k", "v"),
        "set_experiment_tags": lambda: mlflow.set_experiment_tags({"l": "v"}),
        "delete_experiment_tag": lambda: mlflow.MlflowClient().delete_experiment_tag(s["exp"], "l"),
        "delete_experiment": lambda: mlflow.delete_experiment(
            mlflow.get_experiment_by_name("second").experiment_id
        ),
        "restore_experiment": lambda: c.restore_experiment(c.get_experiment_by_name("second").experiment_id),
        "delete_run": lambda: mlflow.delete_run(s["id"]),
        "restore_run": lambda: c.restore_run(s["id"]),
        "register_model": lambda: version_of(
            mlflow.register_model(f"models:/{s['model'].model_id}", "fluent")
        ),
        "search_model_versions": lambda: [
            str(v.version) for v in mlflow.search_model_versions(filter_string="name='fluent'")
        ],
        "search_registered_models": lambda: ids(mlflow.search_registered_models()),
        "set_model_version_tag": lambda: mlflow.set_model_version_tag("fluent", "1", "k", "v"),
        "register_prompt": lambda: mlflow.register_prompt("hello", "Hi {{name}}").template,
        "load_prompt": lambda: mlflow.load_prompt("hello", version=1).template,
        "search_prompts": lambda: [p.name for p in mlflow.search_prompts()],
        "set_prompt_alias": lambda: mlflow.set_prompt_alias("hello", "best", 1),
        "delete_prompt_alias": lambda: mlflow.delete_prompt_alias("hello", "best"),
    }
    client = {
        "create_run": lambda: s.update(other=c.create_run(s["exp"], run_name="two").info.run_id),
        "log_batch": batch,
        "log_metric": lambda: c.log_metric(s["other"], "m", 1.5, 10, 1),
        "log_param": lambda: c.log_param(s["other"], "p", "1"),
        "set_tag": lambda: c.set_tag(s["other"], "t", "v"),
        "delete_tag": lambda: c.delete_tag(s["other"], "t"),
        "get_run": lambda: run_of(c.get_run(s["other"])),
        "update_run": lambda: c.update_run(s["other"], name="three"),
        "get_metric_history": lambda: [[m.value, m.step] for m in c.get_metric_history(s["other"], "m")],
        "get_parent_run": lambda: c.get_parent_run(s["other"]),
        "log_artifact": lambda: c.log_artifact(s["other"], str(place / "one.txt")),
        "log_artifacts": lambda: c.log_artifacts(s["other"], str(place / "dir"), "y"),
        "log_text": lambda: c.log_text(s["other"], "t", "t.txt"),
        "log_dict": lambda: c.log_dict(s["other"], {"a": 1}, "d.yaml"),
        "log_figure": lambda: figure(lambda fig, name: c.log_figure(s["other"], fig, name)),
        "log_image": lambda: c.log_image(
            s["other"], __import__("numpy").zeros((2, 2, 3), dtype="uint8"), "i.png"
        ),
        "log_table": lambda: c.log_table(s["other"], {"a": [1]}, "t.json"),
        "load_table": lambda: [int(a) for a in c.load_table(s["exp"], "t.json", [s["other"]])["a"]],
        "list_artifacts": lambda: [
            [f.path, f.is_dir, f.file_size] for f in c.list_artifacts(s["other"], "y")
        ],
        "download_artifacts": lambda: Path(c.download_artifacts(s["other"], "y/sub/f.txt")).read_text(),
        "log_inputs": lambda: c.log_inputs(s["other"], models=[LoggedModelInput(s["model"].model_id)]),
        "create_logged_model": logged,
        "log_model_params": lambda: c.log_model_params(s["lm"].model_id, {"q": "2"}),
        "log_model_artifact": lambda: c.log_model_artifact(s["lm"].model_id, str(place / "one.txt")),
        "log_model_artifacts": lambda: c.log_model_artifacts(s["lm"].model_id, str(place / "dir")),
        "list_logged_model_artifacts": lambda: sorted(
            f.path for f in c.list_logged_model_artifacts(s["lm"].model_id)
        ),
        "finalize_logged_model": lambda: model_of(c.finalize_logged_model(s["lm"].model_id, "READY")),
        "get_logged_model": lambda: model_of(c.get_logged_model(s["lm"].model_id)),
        "set_logged_model_tags": lambda: c.set_logged_model_tags(s["lm"].model_id, {"x": "y"}),
        "delete_logged_model_tag": lambda: c.delete_logged_model_tag(s["lm"].model_id, "x"),
        "search_logged_models": lambda: ids(c.search_logged_models([s["exp"]], "name = 'lm'")),
        "log_outputs": lambda: c.log_outputs(s["other"], [LoggedModelOutput(s["lm"].model_id, 0)]),
        "search_runs": lambda: [
            r.info.run_name for r in c.search_runs([s["exp"]], order_by=["attributes.run_name"])
        ],
        "set_terminated": lambda: c.set_terminated(s["other"], "FAILED"),
        "delete_run": lambda: c.delete_run(s["other"]),
        "restore_run": lambda: c.restore_run(s["other"]),
        "create_experiment": lambda: bool(c.create_experiment("third")),
        "get_experiment": lambda: c.get_experiment(s["exp"]).name,
        "get_experiment_by_name": lambda: c.get_experiment_by_name("third").lifecycle_stage,
        "rename_experiment": lambda: c.rename_experiment(
            c.get_experiment_by_name("third").experiment_id, "fourth"
        ),
        "set_experiment_tag": lambda: c.set_experiment_tag(s["exp"], "a", "b"),
        "delete_experiment_tag": lambda: c.delete_experiment_tag(s["exp"], "a"),
        "search_experiments": lambda: ids(c.search_experiments(filter_string="name LIKE 'f%'")),
        "delete_experiment": lambda: c.delete_experiment(c.get_experiment_by_name("fourth").experiment_id),
        "restore_experiment": lambda: c.restore_experiment(c.get_experiment_by_name("fourth").experiment_id),
        "create_registered_model": lambda: c.create_registered_model("m", {"a": "b"}, "d").tags,
        "create_model_version": made_version,
        "get_model_version": lambda: version_of(c.get_model_version("m", "1")),
        "update_model_version": lambda: version_of(c.update_model_version("m", "1", "new")),
        "set_model_version_tag": lambda: c.set_model_version_tag("m", "1", "x", "y"),
        "delete_model_version_tag": lambda: c.delete_model_version_tag("m", "1", "x"),
        "get_model_version_download_uri": lambda: bool(c.get_model_version_download_uri("m", "1")),
        "transition_model_version_stage": lambda: version_of(
            c.transition_model_version_stage("m", "1", "Staging")
        ),
        "get_latest_versions": lambda: list(map(version_of, c.get_latest_versions("m"))),
        "set_registered_model_alias": lambda: c.set_registered_model_alias("m", "a", "1"),
        "get_model_version_by_alias": lambda: version_of(c.get_model_version_by_alias("m", "a")),
        "delete_registered_model_alias": lambda: c.delete_registered_model_alias("m", "a"),
        "search_model_versions": lambda: list(map(version_of, c.search_model_versions("name = 'm'"))),
        "copy_model_version": lambda: version_of(c.copy_model_version("models:/m/1", "copy")),
        "update_registered_model": lambda: c.update_registered_model("m", "dd").description,
        "set_registered_model_tag": lambda: c.set_registered_model_tag("m", "x", "y"),
        "delete_registered_model_tag": lambda: c.delete_registered_model_tag("m", "x"),
        "get_registered_model": lambda: [
            c.get_registered_model("m").tags,
            c.get_registered_model("m").description,
        ],
        "rename_registered_model": lambda: c.rename_registered_model("copy", "copied") and None,
        "search_registered_models": lambda: ids(c.search_registered_models("tags.a = 'b'")),
        "delete_model_version": lambda: c.delete_model_version("copied", "1"),
        "delete_registered_model": lambda: c.delete_registered_model("copied"),
        "delete_logged_model": lambda: c.delete_logged_model(
            mlflow.initialize_logged_model(name="gone").model_id
        ),
        "register_prompt": lambda: c.register_prompt("second", "Hi {{name}}").version,
        "load_prompt": lambda: c.load_prompt("prompts:/second/1").template,
        "get_prompt": lambda: c.get_prompt("second").name,
        "get_prompt_version": lambda: c.get_prompt_version("second", 1).template,
        "search_prompts": lambda: [p.name for p in c.search_prompts()],
        "search_prompt_versions": lambda: len(list(c.search_prompt_versions("second"))),
        "create_prompt": lambda: c.create_prompt("third").name,
        "create_prompt_version": lambda: c.create_prompt_version("third", "x {{y}}").version,
        "set_prompt_alias": lambda: c.set_prompt_alias("second", "best", 1),
        "get_prompt_version_by_alias": lambda: c.get_prompt_version_by_alias("second", "best").template,
        "delete_prompt_alias": lambda: c.delete_prompt_alias("second", "best"),
        "set_prompt_tag": lambda: c.set_prompt_tag("second", "k", "v"),
        "delete_prompt_tag": lambda: c.delete_prompt_tag("second", "k"),
        "set_prompt_version_tag": lambda: c.set_prompt_version_tag("second", "1", "k", "v"),
        "delete_prompt_version_tag": lambda: c.delete_prompt_version_tag("second", "1", "k"),
        "link_prompt_version_to_run": lambda: c.link_prompt_version_to_run(s["id"], "prompts:/second/1"),
        "link_prompt_version_to_model": lambda: c.link_prompt_version_to_model(
            "second", "1", s["model"].model_id
        ),
        "list_logged_prompts": lambda: len(c.list_logged_prompts(s["id"])),
        "delete_prompt_version": lambda: c.delete_prompt_version("third", "1"),
        "delete_prompt": lambda: c.delete_prompt("third"),
    }
    files = {
        "list_artifacts": lambda: sorted(f.path for f in mlflow.artifacts.list_artifacts(run_id=s["id"])),
        "download_artifacts": lambda: Path(
            mlflow.artifacts.download_artifacts(f"runs:/{s['id']}/x/one.txt")
        ).read_text(),
        "load_text": lambda: mlflow.artifacts.load_text(f"runs:/{s['id']}/a/t.txt"),
        "load_dict": lambda: mlflow.artifacts.load_dict(f"runs:/{s['id']}/d.json"),
        "load_image": lambda: mlflow.artifacts.load_image(f"runs:/{s['id']}/image.png").size,
    }
    data = {
        "get_source": lambda: (
            type(mlflow.data.get_source(mlflow.get_run(s["id"]).inputs.dataset_inputs[0])).__name__
        )
    }
    return {"mlflow": fluent, "MlflowClient": client, "mlflow.artifacts": files, "mlflow.data": data}


def known():
    """Return the public functions of the installed MLflow, by where they are."""
    import mlflow
    import mlflow.artifacts
    import mlflow.data
    from mlflow import MlflowClient

    def public(owner, names=None):
        return sorted(
            name
            for name in names or dir(owner)
            if not name.startswith("_") and inspect.isroutine(getattr(owner, name, None))
        )

    return {
        "mlflow": public(mlflow, mlflow.__all__),
        "MlflowClient": public(MlflowClient),
        "mlflow.artifacts": public(mlflow.artifacts, getattr(mlflow.artifacts, "__all__", None)),
        "mlflow.data": public(mlflow.data, getattr(mlflow.data, "__all__", None)),
    }


def probe():
    """Print what each function came to on the store of MLFLOW_TRACKING_URI."""
    warnings.simplefilter("ignore")
    found = {}
    for place, calls in probes().items():
        for name, call in calls.items():
            try:
                found[f"{place}.{name}"] = ["ok", mask(call())]
            except Exception as error:  # whatever it is, it is the result
                found[f"{place}.{name}"] = ["error", " ".join(str(error).split())[:300]]
    sys.__stdout__.write("\n" + json.dumps(found) + "\n")


def ask(uri, place):
    environ = {
        **os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_REGISTRY_URI": "",
    }  # fmt: skip
    del environ["MLFLOW_REGISTRY_URI"]
    done = subprocess.run(
        [sys.executable, __file__, "probe"],
        cwd=place,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


BEGIN, END = "<!-- parity: begin -->\n", "<!-- parity: end -->\n"


def fresh():
    """Return the table of the installed MLflow, after asking two new stores; and what went wrong in ours."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        subprocess.run(["git", "init", "-q", str(place / "repo")], check=True)
        ours, theirs = ask(f"gml://{place}/repo", place), ask(f"sqlite:///{place}/mlflow.db", place)
    wrong = {key: [ours[key], theirs.get(key)] for key in ours if ours[key] != theirs.get(key)}
    return table(ours, theirs), wrong


def written(page):
    """Return the table that a page has."""
    return page.partition(BEGIN)[2].partition(END)[0]


def table(ours, theirs):
    """Return the table as Markdown, from what both stores answered."""
    lines = ["| function | with `gml:` |", "|---|---|"]
    rows = {}
    for place, names in known().items():
        for name in names:
            full = f"{place}.{name}"
            mine, other = ours.get(full), theirs.get(full)
            why = next((what for word, what in ABSENT if word in name), None)
            if mine is not None and other is not None:
                if mine == other and mine[0] == "ok":
                    said = "same" if not NOTES.get(name) else f"same, but {NOTES[name]}"
                elif mine[0] == "ok":
                    said = "works" if other[0] == "error" else "differs"
                else:
                    said = "no"
            elif name in LOCAL:
                said = "asks no store, or only by other functions"
            elif why is not None:
                said = f"not planned: gml has no {why}"
            else:
                said = "not tried"
            rows.setdefault((place, said), []).append(name)
    order = ("same", "works", "differs", "no", "not tried", "asks", "not planned")
    for (place, said), names in sorted(
        rows.items(), key=lambda row: next(i for i, word in enumerate(order) if row[0][1].startswith(word))
    ):
        lines.append(f"| {place}: {', '.join(f'`{name}`' for name in names)} | {said} |")
    import gml

    has = [name for name in known()["mlflow"] if name in dir(gml)]
    lines.append(f"| `import gml as mlflow` has {', '.join(f'`{name}`' for name in has)} | without MLflow |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1] == "probe":
        probe()
    else:
        made, wrong = fresh()
        for key, values in wrong.items():
            sys.stderr.write(f"{key}\n   {values[0]}\n   {values[1]}\n")
        if len(sys.argv) > 2:
            target = Path(sys.argv[2])
            text = target.read_text()
            target.write_text(text.replace(BEGIN + written(text) + END, BEGIN + made + END))
        else:
            sys.stdout.write(made)
