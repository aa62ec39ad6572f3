import contextlib
import os
import re
import subprocess
import sys
import threading

import pandas as pd
import pytest
from serving_lab import DEADLINE, Server, save_linear, scorer_of


@pytest.fixture(scope="session")
def table():
    return pd.DataFrame({"age": [20.0, 30.0, 50.0, 70.0], "calls": [1, 0, 4, 9]})


@pytest.fixture(scope="session")
def linear(tmp_path_factory, table):
    return save_linear(tmp_path_factory.mktemp("linear") / "model", table)


@pytest.fixture(scope="session")
def scorer(linear):
    return scorer_of(linear)


@pytest.fixture
def serve():
    """Return a function that starts servers; all are ended after the test."""
    started = []

    def start(model, *args, cwd=None, **environ):
        process = subprocess.Popen(
            [sys.executable, "-m", "gml", "models", "serve", "-m", str(model), "-p", "0", *args],
            cwd=cwd,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        errors = []
        server = Server(process, "", errors)
        started.append(server)
        ready = threading.Event()

        def read():
            for line in process.stderr:
                errors.append(line)
                found = re.match(r"gml: ready on (\S+)", line)
                if found:
                    server.url = found.group(1)
                    ready.set()
            ready.set()

        threading.Thread(target=read, daemon=True).start()
        assert ready.wait(DEADLINE), "the server did not start"
        assert server.url, "".join(errors)
        return server

    yield start
    for server in started:
        with contextlib.suppress(ProcessLookupError):
            if server.process.poll() is None:
                server.process.terminate()
                server.process.wait(DEADLINE)
        server.process.stderr.close()
