"""Container contexts: a verified model, its pinned environment, a Dockerfile without root."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml._version import __version__
from gml.domain.errors import ConflictError, GmlError, TrustError, UsageError
from gml.fs import storage_error
from gml.models import environment, policy
from gml.models.flavor import LoadOptions

if TYPE_CHECKING:
    from gml.tracking.models.resolve import Resolved

_DOCKERFILE: Final = """\
FROM {base}
LABEL org.opencontainers.image.title={title} \\
      org.opencontainers.image.version={version} \\
      dev.gml.model.digest="sha256:{digest}" \\
      dev.gml.model.format-class="{format_class}"
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 HOME=/home/model
RUN useradd --create-home --uid 10001 model
WORKDIR /opt/ml
COPY requirements.txt /opt/ml/requirements.txt
RUN pip install --no-cache-dir -r /opt/ml/requirements.txt
COPY model /opt/ml/model
COPY --chmod=0755 serve /usr/local/bin/serve
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \\
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/ping', timeout=4)"]
CMD ["serve"]
"""

# SageMaker starts a container with the argument `serve`.
_SERVE: Final = """\
#!/bin/sh
set -eu
exec gml models serve -m /opt/ml/model -h 0.0.0.0 -p 8080 --workers "${{GML_WORKERS:-1}}" --trust {trust} \\
    --expect-digest {digest}
"""


def write_context(found: Resolved, target: str | Path, *, base: str | None, code: bool) -> Path:
    """Write a container context to a new folder.

    Args:
        found: the model.
        target: the folder.
        base: base image.
        code: code of the model may run in the container.

    Raises:
        ConflictError: the folder is not empty.
        TrustError: the model runs code that nobody approved.
        CorruptError: a file does not match its digest.
    """
    folder = Path(target)
    if folder.exists() and any(folder.iterdir()):
        raise ConflictError(f"{folder} is there already", hint="give a new folder")
    files = found.files
    files.verify()
    mlmodel = files.mlmodel()
    verdict = policy.judge(files, mlmodel)
    policy.check(verdict, LoadOptions(code=code), files.origin)
    digest = files.digest()
    python = str(mlmodel.pyfunc.get("python_version") or "3.11")
    try:
        for name in files.names:
            path = folder / "model" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files.read(name))
        lines = [*environment.read_requirements(files), f"gitml[serving]=={__version__}"]
        (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        dockerfile = _DOCKERFILE.format(
            base=base or f"python:{'.'.join(python.split('.')[:2])}-slim",
            title=json.dumps(found.label),
            version=json.dumps(str(found.version or digest[:12])),
            digest=digest,
            format_class=verdict.format_class,
        )
        (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
        script = _SERVE.format(trust="code" if code else "data", digest=digest)
        (folder / "serve").write_text(script, encoding="utf-8")
        (folder / "serve").chmod(0o755)
        (folder / ".dockerignore").write_text("**/__pycache__\n", encoding="utf-8")
    except OSError as error:
        raise storage_error(error, f"cannot write {folder}") from error
    files.release()
    return folder


def build(found: Resolved, name: str, target: str | None, *, base: str | None, code: bool) -> Path:
    """Write a context and build it.

    Raises:
        UsageError: neither docker nor podman is here.
        GmlError: the build failed.
    """
    tool = shutil.which("docker") or shutil.which("podman")
    if tool is None:
        raise UsageError(
            "neither docker nor podman is installed", hint="gml models generate-dockerfile writes the context"
        )
    folder = Path(target) if target is not None else Path(tempfile.mkdtemp(prefix="gml-image-"))
    write_context(found, folder, base=base, code=code)
    done = subprocess.run([tool, "build", "-t", name, str(folder)], check=False)
    if done.returncode:
        raise GmlError(f"{tool} build ended with {done.returncode}", hint=f"the context is in {folder}")
    return folder


__all__: list[Any] = ["TrustError", "build", "write_context"]
