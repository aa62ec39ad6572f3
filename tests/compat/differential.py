"""Sends the same generated calls to two servers that speak MLflow's REST API, and compares the answers.

Each side has its own ids; answers are compared after ids, times and made-up names are replaced by what they stand
for. What may differ is named by the caller, and listed in docs/mlflow.md.
"""

from __future__ import annotations

import json
import random
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

API = "/api/2.0/mlflow/"
# Keys whose values are times or made-up names of the server.
MASKED = {"creation_time", "last_update_time", "creation_timestamp_ms", "last_updated_timestamp_ms"}
SORTED = {
    "tags",
    "metrics",
    "params",
    "models",
    "experiments",
    "dataset_inputs",
    "dataset_summaries",
    "model_outputs",
}
# Texts of messages that list a Python set, whose order is none, or name the database's own error.
CUT = (
    "Valid keys are",
    "not one of",
    "already exists.",
    "Valid values are",
    "Invalid clause(s)",
    "Params were already",
)


@dataclass
class Side:
    """One server, and what it called the things that were made."""

    base: str
    headers: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)  # its id -> our name
    names: dict[str, str] = field(default_factory=dict)  # our name -> its id

    def learn(self, name: str, own: str) -> None:
        self.ids[own] = name
        self.names[name] = own

    def fill(self, value: Any) -> Any:
        """Return a call's value with our names replaced by this server's ids."""
        if isinstance(value, str):
            return re.sub(r"<(\w+)>", lambda match: self.names.get(match.group(1), "missing"), value)
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return value

    def call(self, method: str, path: str, values: Any, raw: bytes | None = None) -> tuple[int, Any]:
        url = self.base + (path if path.startswith("/") else API + path)
        url = self.fill(url)
        data, headers = None, dict(self.headers)
        if raw is not None:
            data = raw
            headers["Content-Type"] = "application/json"
        elif method == "GET":
            if values:
                url += "?" + urllib.parse.urlencode(self.fill(values), doseq=True)
        elif values is not None:
            data = json.dumps(self.fill(values)).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        try:
            return status, json.loads(body)
        except ValueError:
            return status, "text"

    def plain(self, value: Any, key: str = "") -> Any:
        """Return an answer in words that both sides share."""
        if isinstance(value, dict):
            if "error_code" in value:
                return {
                    "error_code": value["error_code"],
                    "message": self._message(str(value.get("message"))),
                }
            out = {}
            for name, item in value.items():
                if name in MASKED:
                    out[name] = "TIME"
                elif name in {"artifact_uri", "artifact_location", "root_uri"}:
                    out[name] = "URI"
                elif name in {"effective_trace_archival_retention", "workspace"}:
                    continue
                else:
                    out[name] = self.plain(item, name)
            if out.get("key") == "mlflow.runName" and str(out["value"]).count("-") == 2:
                out["value"] = "NAME"
            return out
        if isinstance(value, list):
            items = [self.plain(item) for item in value]
            return (
                sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if key in SORTED else items
            )
        if (
            key in {"run_name", "name"}
            and isinstance(value, str)
            and re.fullmatch(r"[a-z]+-[a-z]+-\d+", value)
        ):
            return "NAME"
        if key == "experiment_id":
            return self.ids.get(str(value), value)
        if isinstance(value, str):
            return self._words(value)
        return (
            float(value)
            if key == "value" and isinstance(value, int) and not isinstance(value, bool)
            else value
        )

    def _words(self, text: str) -> str:
        for own, name in self.ids.items():
            if len(own) > 5:
                text = text.replace(own, name)
        return text

    def _message(self, text: str) -> str:
        for stop in CUT:
            if stop in text:
                return self._words(text[: text.index(stop) + len(stop)])
        for own, name in self.ids.items():
            if len(own) <= 5:
                text = re.sub(rf"(?<=id[= ]){own}\b|(?<=experiment ){own}\b", name, text)
        return self._words(text)


KEYS = ["a", "b/c", "loss", "x.y", "with space", "é"]
BAD_KEYS = ["", "a" * 251, "../up", "/root", "a//b", "new\tline", None, 5]
VALUES = ["1", "2", "", "x" * 6001, "text with ' quote", "π"]
NUMBERS: list[Any] = [0.5, 1, -3, 1e300, "NaN", "2.5", 0]
BAD_NUMBERS: list[Any] = ["abc", None, [], True, {}]
FILTERS = [
    "", "metrics.loss > 0.4", "metric.loss <= 1 and params.a = '1'", "params.a != '1'", "tags.a LIKE '%1%'",
    "tags.`b/c` ILIKE 'TEXT%'", "attributes.status = 'FINISHED'", "status != 'RUNNING'", "run_name LIKE 'n%'",
    "attributes.run_id IN ('<run0>', '<run1>')", "run_id NOT IN ('<run0>')", "start_time > 500", "end_time >= 100",
    "params.a IS NULL", "tags.a IS NOT NULL AND metrics.a < 10", "params.\"x.y\" = '2'", "dataset.name = 'd0'",
    "datasets.digest IN ('x1', 'x2')", "dataset.context = 'train'", "user_id = 'u'", "metrics.loss = 0.5 AND",
    # what is not in the grammar
    "metrics.loss", "metrics.loss > 'a'", "params.a = 1", "params.a > '1'", "nothing.a = 'b'", "bogus = 'x'",
    "a = 1 OR b = 2", "(metrics.a > 1)", "params.a = 'x' ; params.b = 'y'", "status IN ('RUNNING')", "metrics.a == 1",
    "tags.a RLIKE 'x'", "metrics.loss IS NULL", "dataset.other = 'x'", "start_time > 'x'", "NOT params.a = '1'",
    "params.a = unquoted", "5 > 4", "run_id IN ()", "run_id IN (1, 2)",
]  # fmt: skip
ORDERS = [
    [], ["metrics.loss DESC"], ["attributes.start_time ASC"], ["tags.a", "start_time DESC"], ["metrics.a ASC", "start_time"],
    ["attribute.end_time DESC"], ["status"], ["bogus"], ["metrics.loss DOWN"], ["metrics.loss", "metrics.loss DESC"],
    [""], ["run_name desc"],
]  # fmt: skip


class Calls:
    """Generates calls; what they make is known by our names."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.runs = 0
        self.experiments = 0
        self.models = 0

    def run(self) -> str:
        pick = self.random.random()
        if pick < 0.04 or not self.runs:
            return self.random.choice(["missing0", "", "no such run"])
        return f"<run{self.random.randrange(self.runs)}>"

    def experiment(self) -> str:
        pick = self.random.random()
        if pick < 0.05 or not self.experiments:
            return self.random.choice(["123456", "abc", ""])
        return f"<exp{self.random.randrange(self.experiments)}>"

    def key(self) -> Any:
        return self.random.choice(BAD_KEYS if self.random.random() < 0.08 else KEYS)

    def value(self) -> Any:
        return self.random.choice([None, 5, ["x"]] if self.random.random() < 0.04 else VALUES)

    def number(self) -> Any:
        return self.random.choice(BAD_NUMBERS if self.random.random() < 0.06 else NUMBERS)

    def time(self) -> Any:
        return self.random.choice(
            [-1, "x", None, 1.5] if self.random.random() < 0.05 else [0, 100, 1000, "2000", 3000]
        )

    def metric(self) -> dict[str, Any]:
        out = {"key": self.key(), "value": self.number(), "timestamp": self.time()}
        if self.random.random() < 0.7:
            out["step"] = self.random.choice([0, 1, 2, -1, "3"])
        return self.maybe_less(out)

    def pair(self) -> dict[str, Any]:
        return self.maybe_less({"key": self.key(), "value": self.value()})

    def maybe_less(self, values: dict[str, Any]) -> dict[str, Any]:
        """Leave a field out, double it, or add one that nobody knows, now and then."""
        pick = self.random.random()
        if pick < 0.04 and values:
            del values[self.random.choice(list(values))]
        elif pick < 0.06:
            values["unknown_field"] = {"x": [1]}
        return values

    def next(self) -> tuple[str, str, Any, str]:
        """Return method, path, values, and the name of what it makes, if it makes something."""
        r = self.random
        if self.experiments < 2:
            return self.create_experiment()
        if self.runs < 2:
            return self.create_run()
        makers = [
            (2, self.create_experiment), (8, self.create_run), (10, self.log_metric), (10, self.log_batch),
            (8, self.log_param), (8, self.set_tag), (4, self.delete_tag), (6, self.update_run), (8, self.get_run),
            (14, self.search_runs), (8, self.history), (4, self.delete_restore), (5, self.inputs), (6, self.experiment_call),
            (4, self.search_experiments), (4, self.sampled), (3, self.artifacts), (4, self.model_call),
        ]  # fmt: skip
        return r.choices([maker for _, maker in makers], [weight for weight, _ in makers])[0]()

    def create_experiment(self) -> tuple[str, str, Any, str]:
        r = self.random
        values: dict[str, Any] = {"name": f"exp-{self.seed}-{self.experiments}"}
        pick = r.random()
        if self.experiments and pick < 0.3:
            values["name"] = r.choice([f"exp-{self.seed}-0", "", 7, "x" * 501])
            return "POST", "experiments/create", values, ""
        if pick < 0.6:
            values["tags"] = [{"key": "team", "value": "risk"}]
        self.experiments += 1
        return "POST", "experiments/create", values, f"exp{self.experiments - 1}"

    def create_run(self) -> tuple[str, str, Any, str]:
        r = self.random
        # A start time of its own: what is equal there is ordered by id, and ids are each server's.
        values: dict[str, Any] = {"experiment_id": self.experiment(), "start_time": 1000 + self.runs * 10}
        # With a name: an order by made-up names is each server's.
        values["run_name"] = r.choice(["n1", "name two", "ü"])
        if r.random() < 0.4:
            values["tags"] = [
                {"key": "a", "value": r.choice(["1", "21", ""])},
                {"key": "mlflow.note.content", "value": "n"},
            ]
        if r.random() < 0.1:
            values["start_time"] = r.choice(["x", [], {}])
            return "POST", "runs/create", values, ""
        if not re.fullmatch(r"<exp\d+>", values["experiment_id"]):
            return "POST", "runs/create", {"experiment_id": "abc"}, ""
        self.runs += 1
        return "POST", "runs/create", values, f"run{self.runs - 1}"

    def log_metric(self) -> tuple[str, str, Any, str]:
        return "POST", "runs/log-metric", {"run_id": self.run(), **self.metric()}, ""

    def log_batch(self) -> tuple[str, str, Any, str]:
        r = self.random
        values: dict[str, Any] = {"run_id": self.run()}
        if r.random() < 0.8:
            values["metrics"] = [self.metric() for _ in range(r.choice([1, 3, 10, 10]))]
        if r.random() < 0.5:
            values["params"] = [self.pair() for _ in range(r.choice([1, 2]))]
        if r.random() < 0.5:
            values["tags"] = [self.pair() for _ in range(r.choice([1, 2]))]
        if r.random() < 0.04:
            values[r.choice(["metrics", "params", "tags"])] = r.choice(["x", {}, 3])
        if r.random() < 0.03:
            values["metrics"] = [{"key": "k", "value": 1, "timestamp": 1} for _ in range(1001)]
        return "POST", "runs/log-batch", self.maybe_less(values), ""

    def log_param(self) -> tuple[str, str, Any, str]:
        return "POST", "runs/log-parameter", {"run_id": self.run(), **self.pair()}, ""

    def set_tag(self) -> tuple[str, str, Any, str]:
        values = {"run_id": self.run(), **self.pair()}
        if self.random.random() < 0.1:
            values |= {"key": "mlflow.runName", "value": "renamed"}
        return "POST", "runs/set-tag", values, ""

    def delete_tag(self) -> tuple[str, str, Any, str]:
        return "POST", "runs/delete-tag", self.maybe_less({"run_id": self.run(), "key": self.key()}), ""

    def update_run(self) -> tuple[str, str, Any, str]:
        r = self.random
        values: dict[str, Any] = {"run_id": self.run()}
        if r.random() < 0.7:
            values["status"] = r.choice(["FINISHED", "FAILED", "RUNNING", "KILLED", "BOGUS", 3, 1.5])
        if r.random() < 0.6:
            values["end_time"] = r.choice([5000, 6000, "7000", "x", None])
        if r.random() < 0.2:
            values["run_name"] = r.choice(["n9", "", 5])
        return "POST", "runs/update", values, ""

    def get_run(self) -> tuple[str, str, Any, str]:
        return "GET", "runs/get", {self.random.choice(["run_id", "run_uuid"]): self.run()}, ""

    def search_runs(self) -> tuple[str, str, Any, str]:
        r = self.random
        values: dict[str, Any] = {
            "experiment_ids": [f"<exp{i}>" for i in range(self.experiments)],
            "filter": r.choice(FILTERS),
            "order_by": r.choice(ORDERS),
        }
        if r.random() < 0.3:
            values["run_view_type"] = r.choice(["ALL", "DELETED_ONLY", "ACTIVE_ONLY", "BOGUS", 3])
        if r.random() < 0.3:
            values["max_results"] = r.choice([1, 2, 3, 50001, 0, -1, "x"])
        if r.random() < 0.1:
            values["page_token"] = r.choice(["eyJvZmZzZXQiOiAxfQ==", "rubbish", "e30="])
        if r.random() < 0.05:
            values["experiment_ids"] = r.choice([[], "x", ["abc"]])
        return "POST", "runs/search", values, ""

    def history(self) -> tuple[str, str, Any, str]:
        r = self.random
        values: dict[str, Any] = {"run_id": self.run(), "metric_key": r.choice(["loss", "a", "none", ""])}
        if r.random() < 0.3:
            values["max_results"] = r.choice([1, 2, 0, -1])
        return "GET", "metrics/get-history", values, ""

    def sampled(self) -> tuple[str, str, Any, str]:
        r = self.random
        values: dict[str, Any] = {"run_ids": [self.run(), self.run()], "metric_key": "loss"}
        values["max_results"] = r.choice([1, 2, 5, 320, 0, 2501])
        if r.random() < 0.3:
            values["start_step"] = r.choice([0, 1, 9])
        if r.random() < 0.3:
            values["end_step"] = r.choice([2, 5])
        return "GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval", values, ""

    def delete_restore(self) -> tuple[str, str, Any, str]:
        return (
            "POST",
            self.random.choice(["runs/delete", "runs/restore", "runs/restore"]),
            {"run_id": self.run()},
            "",
        )

    def inputs(self) -> tuple[str, str, Any, str]:
        r = self.random
        number = r.randrange(3)
        entry = {
            "dataset": {"name": f"d{number}", "digest": f"x{number}", "source_type": "local", "source": "s"},
            "tags": [{"key": "mlflow.data.context", "value": r.choice(["train", "test"])}],
        }
        return "POST", "runs/log-inputs", {"run_id": self.run(), "datasets": [entry]}, ""

    def experiment_call(self) -> tuple[str, str, Any, str]:
        r = self.random
        wanted = self.experiment()
        return r.choice(
            [
                ("GET", "experiments/get", {"experiment_id": wanted}, ""),
                (
                    "GET",
                    "experiments/get-by-name",
                    {"experiment_name": r.choice([f"exp-{self.seed}-0", "none", ""])},
                    "",
                ),
                ("POST", "experiments/set-experiment-tag", {"experiment_id": wanted, **self.pair()}, ""),
                ("POST", "experiments/delete-experiment-tag", {"experiment_id": wanted, "key": "team"}, ""),
                (
                    "POST",
                    "/ajax-api/2.0/mlflow/experiments/search-datasets",
                    {"experiment_ids": [wanted] if wanted != "" else []},
                    "",
                ),
            ]
        )

    def search_experiments(self) -> tuple[str, str, Any, str]:
        r = self.random
        mine = f"name LIKE 'exp-{self.seed}-%'"
        values = {
            "max_results": r.choice([100, 100, 1, 0, 50001]),
            "filter": r.choice([mine, mine + " AND tags.team = 'risk'", mine + " AND tags.team IS NULL", "name = 5",
                                "tag.team ILIKE 'RI%' AND " + mine, "metrics.a = 1", "name IN ('x')", "bogus = 'x'"]),
            "order_by": r.choice([["name ASC"], ["name DESC"], ["bogus"], ["tags.a"]]),
        }  # fmt: skip
        return "POST", "experiments/search", values, ""

    def artifacts(self) -> tuple[str, str, Any, str]:
        path = self.random.choice([None, "x", "../up", "/etc", "%2e%2e/x", "a/../../b", "C:/x"])
        values = {"run_id": self.run()}
        return "GET", "artifacts/list", values | ({"path": path} if path else {}), ""

    def model_call(self) -> tuple[str, str, Any, str]:
        r = self.random
        if not self.models or r.random() < 0.3:
            self.models += 1
            values: dict[str, Any] = {"experiment_id": "<exp0>", "name": "mod", "model_type": "t"}
            values["params"] = [{"key": "p", "value": "1"}]
            return "POST", "logged-models", values, f"mod{self.models - 1}"
        one = f"<mod{r.randrange(self.models)}>"
        return r.choice(
            [
                ("GET", f"logged-models/{one}", None, ""),
                ("GET", "logged-models/m-none", None, ""),
                ("PATCH", f"logged-models/{one}", {"model_id": one, "status": r.choice([2, 3, "LOGGED_MODEL_READY"])}, ""),
                ("PATCH", f"logged-models/{one}/tags", {"tags": [{"key": "k", "value": r.choice(["1", "2"])}]}, ""),
                ("DELETE", f"logged-models/{one}/tags/k", None, ""),
                ("POST", "logged-models/search", {"experiment_ids": ["<exp0>"], "filter": r.choice(["", "name = 'mod'",
                  "params.p = '1'", "tags.k = '1'", "metrics.a > 1", "bogus = 'x'", "status = 'READY'"])}, ""),
            ]
        )  # fmt: skip


def first_difference(a: Any, b: Any, at: str = "") -> str:
    """Return where two answers differ first."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if a.get(key) != b.get(key):
                return first_difference(a.get(key), b.get(key), f"{at}.{key}")
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        for index, pair in enumerate(zip(a, b, strict=True)):
            if pair[0] != pair[1]:
                return first_difference(*pair, f"{at}[{index}]")
    return f"{at}: gml {str(a)[:500]} | mlflow {str(b)[:500]}"


def own_id(answer: Any) -> str:
    """Return the id of what a call has made."""
    if "experiment_id" in answer:
        return str(answer["experiment_id"])
    if "run" in answer:
        return str(answer["run"]["info"]["run_id"])
    return str(answer["model"]["info"]["model_id"])


@dataclass
class Outcome:
    """What a run of generated calls found."""

    calls: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    allowed: dict[str, int] = field(default_factory=dict)


def compare(ours: Side, theirs: Side, seed: int, count: int, allowed: Any) -> Outcome:
    """Send calls to both sides and compare status and body.

    Args:
        ours: `gml server`.
        theirs: `mlflow server`.
        seed: of the generator.
        count: how many calls.
        allowed: given call and both answers, returns the name of a documented difference, or None.
    """
    calls, out = Calls(seed), Outcome()
    for number in range(count):
        method, path, values, makes = calls.next()
        answers = []
        for side in (ours, theirs):
            status, body = side.call(method, path, values)
            if makes and status == 200:
                side.learn(makes, own_id(body))
            answers.append((status, side.plain(body)))
        out.calls += 1
        out.statuses[answers[1][0]] = out.statuses.get(answers[1][0], 0) + 1
        if answers[0] != answers[1]:
            name = allowed(method, path, values, answers[0], answers[1])
            if name:
                out.allowed[name] = out.allowed.get(name, 0) + 1
            else:
                shown = json.dumps(values)[:400]
                out.differences.append(f"{number}: {method} {path} {shown}\n  {first_difference(*answers)}")
        if makes and (answers[0][0] == 200) != (answers[1][0] == 200):
            raise AssertionError(out.differences[-1:])
    return out
