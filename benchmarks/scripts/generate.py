"""Fill the repository of the current directory with N runs of 20 params, 20 metrics and 5 tags."""

from __future__ import annotations

import random
import sys

from gml.domain.ids import experiment_id, new_run_id
from gml.ledger import layout
from gml.ledger.codec import encode
from gml.ledger.ledger import Batch
from gml.workspace import Workspace

START_MS = 1_750_000_000_000
EVERY_MS = 120_000
CHUNK = 5_000


def document(number: int, rnd: random.Random) -> dict:
    started = START_MS + number * EVERY_MS
    return {
        "format": "gml-run 1",
        "run_id": new_run_id(started, rnd.randbytes(10)),
        "revision": 1,
        "session": f"{rnd.getrandbits(64):016x}",
        "writer": "0" * 16,
        "experiment_id": experiment_id("churn"),
        "name": f"run-{number}",
        "user": "me",
        "status": "FINISHED",
        "start_time": started,
        "end_time": started + 60_000,
        "params": {f"p{k}": str(rnd.random()) if k else rnd.choice(["rf", "xgb", "lgbm"]) for k in range(20)},
        "tags": {f"t{k}": f"v{rnd.randrange(10)}" for k in range(5)},
        "metrics": {
            f"m{k}": {"last": rnd.random(), "step": 100, "timestamp": started + 59_000} for k in range(20)
        },
        "source": {
            "code": "snapshot",
            "commit": f"{number // 10:040x}",
            "branch": "main",
            "dirty": number % 3 == 0,
        },
    }


def main() -> None:
    count = int(sys.argv[1])
    workspace = Workspace.open()
    rnd = random.Random(1)
    churn = {"format": "gml-experiment 1", "experiment_id": experiment_id("churn"), "name": "churn"}
    for first in range(0, count, CHUNK):
        made = [document(number, rnd) for number in range(first, min(count, first + CHUNK))]
        changes: dict[str, bytes | None] = {layout.record_path(d["run_id"]): encode(d) for d in made}
        changes[layout.experiment_path(experiment_id("churn"))] = encode(churn)
        workspace.ledger.append(lambda _, changes=changes, first=first: Batch(changes, f"{first}\n"))
    print(count)


if __name__ == "__main__":
    main()
