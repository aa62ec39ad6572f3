"""Makes the pictures of docs/ui.md: trains real models in a new repository and photographs its pages.

Needs Chromium, Playwright and scikit-learn. `python docs/make_screenshots.py --keep /tmp/demo` keeps the
repository for a look by hand.
"""

# ruff: noqa: INP001, T201

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
TRAIN = """import sys

import gml
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

matplotlib.use("agg")
rate, hidden, batch, epochs = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), 40
x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x / 16, y, test_size=0.3, random_state=1)
model = MLPClassifier((hidden,), learning_rate_init=rate, batch_size=batch, alpha=1e-4, random_state=0)
gml.log_params({"lr": rate, "hidden": hidden, "batch": batch, "epochs": epochs})
for epoch in range(epochs):
    model.partial_fit(x_train, y_train, classes=np.arange(10))
    shown = model.predict_proba(x_test)
    gml.log_metrics(
        {
            "train/loss": model.loss_,
            "val/loss": log_loss(y_test, shown),
            "val/accuracy": accuracy_score(y_test, shown.argmax(1)),
        },
        step=epoch,
    )
    print(f"epoch {epoch:2d}  loss {model.loss_:.4f}  accuracy {accuracy_score(y_test, shown.argmax(1)):.4f}")
    if epoch in (0, 5, epochs - 1):
        figure = Figure((4, 4))
        ConfusionMatrixDisplay.from_predictions(y_test, shown.argmax(1), ax=figure.subplots(), colorbar=False)
        gml.log_figure(figure, f"confusion/epoch_{epoch}.png")
weights = [weight.round(4).tolist() for weight in model.coefs_]
gml.log_dict({"hidden": hidden, "weights": weights}, "model/weights.json")
"""
CHANGED = TRAIN.replace("x / 16", "np.sqrt(x / 16)")


def run(command: list[str], cwd: Path) -> str:
    """Run a command in the repository and return what it printed."""
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "MPLCONFIGDIR": str(cwd.parent)}
    for role in ("AUTHOR", "COMMITTER"):
        environ |= {f"GIT_{role}_NAME": "Ada", f"GIT_{role}_EMAIL": "ada@example.org"}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def fill(repo: Path) -> None:
    """Train models in a new repository, and register two of them."""
    gml = [sys.executable, "-m", "gml"]
    repo.mkdir(parents=True)
    run(["git", "init", "-q", "-b", "main"], repo)
    (repo / "train.py").write_text(TRAIN)
    run(["git", "add", "-A"], repo)
    run(["git", "commit", "-q", "-m", "Digits: a small network"], repo)
    grid = [(r, h, b) for r in ("0.001", "0.005", "0.02") for h in ("16", "64") for b in ("32", "128")]
    for rate, hidden, batch in grid:
        train = [sys.executable, "train.py", rate, hidden, batch]
        run([*gml, "log", "-q", "-x", "digits", "-n", f"mlp-{hidden}-{rate}-{batch}", "--", *train], repo)
    run([*gml, "registry", "register", "digits", "--run", "@", "--path", "model"], repo)
    run([*gml, "registry", "promote", "digits", "1", "--to", "Production"], repo)
    (repo / "train.py").write_text(CHANGED)
    run(["git", "commit", "-q", "-am", "Brightness as its square root"], repo)
    for hidden in ("64", "128"):
        train = [sys.executable, "train.py", "0.005", hidden, "32"]
        run([*gml, "log", "-q", "-x", "digits", "-n", f"sqrt-{hidden}", "--", *train], repo)
    (repo / "train.py").write_text(CHANGED.replace("alpha=1e-4", "alpha=1e-2"))
    train = [sys.executable, "train.py", "0.005", "128", "32"]
    run([*gml, "log", "-q", "-x", "digits", "-n", "regularised", "--", *train], repo)
    run([*gml, "registry", "register", "digits", "--run", "sqrt-128", "--path", "model"], repo)
    run([*gml, "note", "regularised", "The weights stay smaller; no better on the test set."], repo)


def main() -> None:
    """Fill a repository, serve it, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="use this repository; it is made where it is missing")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "images")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gml-shots-") as scratch:
        repo = options.keep or Path(scratch) / "digits"
        if not repo.exists():
            fill(repo)
        photograph(repo, options.output)


def photograph(repo: Path, output: Path) -> None:
    """Take a picture of each page worth one."""
    from playwright.sync_api import sync_playwright

    output.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "gml", "ui", "--port", "0", "--no-browser"]
    server = subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        link = re.search(r"http\S+", server.stdout.readline())[0]
        top = link.split("/login")[0]
        with sync_playwright() as play:
            found = shutil.which("chromium") or shutil.which("google-chrome")
            browser = play.chromium.launch(executable_path=found, args=FLAGS)
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(link)
            ids = page.eval_on_selector_all("#runs tr[data-run]", "rows => rows.map(r => r.dataset.run)")
            shots = {
                "ui-runs": ("/?sort=-metrics.val/accuracy", ""),
                "ui-run": (f"/runs/{ids[0]}", ""),
                "ui-compare": (f"/compare?runs={','.join(ids)}", ""),
                "ui-compare-dark": (f"/compare?runs={','.join(ids)}", "#parallel-title"),
                "ui-registry": ("/registry/digits/2", ""),
            }
            for name, (address, anchor) in shots.items():
                page.emulate_media(color_scheme="dark" if name.endswith("dark") else "light")
                page.goto(f"{top}{address}")
                page.wait_for_load_state("networkidle")
                if anchor:
                    page.eval_on_selector(anchor, "e => e.scrollIntoView()")
                page.wait_for_timeout(500)
                save(page.screenshot(), output / f"{name}.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()


def save(data: bytes, path: Path) -> None:
    """Write a picture with the 64 colours that pages need at most: a third of the bytes."""
    from PIL import Image

    picture = Image.open(io.BytesIO(data)).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
