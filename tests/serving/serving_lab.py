"""Models to serve, and real servers."""

import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from gml.models.files import ModelFiles
from gml.models.flavor import LoadOptions, get_flavor
from gml.models.loaded import load_model
from gml.models.save import SaveOptions, save_model
from gml.serving.protocol import Scorer

DEADLINE = 60.0


def wait_for(condition, what, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        threading.Event().wait(0.02)
    return found


def save_linear(path, table, labels=(0, 0, 1, 1)):
    model = LogisticRegression().fit(table, list(labels))
    save_model(model, path, get_flavor("sklearn"), SaveOptions(input_example=table[:2]))
    return path


def scorer_of(folder):
    return Scorer(load_model(ModelFiles.of_folder(folder), LoadOptions(code=True)))


@dataclass
class Server:
    """A running `gml models serve`."""

    process: subprocess.Popen
    url: str
    errors: list

    def request(self, path="/invocations", body=None, method=None, timeout=30, **headers):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        head = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        asked = urllib.request.Request(
            self.url + path, data=data, method=method or ("GET" if data is None else "POST"), headers=head
        )
        try:
            with urllib.request.urlopen(asked, timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def json(self, *args, **kwargs):
        status, body = self.request(*args, **kwargs)
        return status, json.loads(body)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait(DEADLINE)
        return self.process.returncode


def plain(value):
    return json.loads(json.dumps(value, default=lambda one: np.asarray(one).tolist()))
