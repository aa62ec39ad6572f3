"""Figures, images and tables as bytes. All libraries are imported when they are needed."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import InvalidValueError, MissingPackageError, NotFoundError, UsageError
from gml.domain.names import check_artifact_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.tracking.recorder import Recorder

_SERIES: Final = re.compile(r"[^\w.-]+")


def figure_bytes(figure: Any, name: str, options: Mapping[str, Any] | None = None) -> bytes:
    """Return a matplotlib or plotly figure in the format that the name's ending asks for.

    Raises:
        UsageError: it is neither.
    """
    ending = Path(name).suffix.lstrip(".").lower() or "png"
    if hasattr(figure, "savefig"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=ending, **(options or {}))
        return buffer.getvalue()
    if hasattr(figure, "to_html"):
        if ending == "html":
            return str(figure.to_html(include_plotlyjs=True)).encode()
        if ending == "json":
            return str(figure.to_json()).encode()
        return bytes(figure.to_image(format=ending, **(options or {})))
    raise UsageError(
        f"log_figure cannot save a {type(figure).__name__}", hint="give a matplotlib or plotly figure"
    )


def image_name(artifact_file: str | None, key: str | None, step: int | None, timestamp: int | None) -> str:
    """Return the artifact name of an image: the one given, or one of a series below `images/`.

    Raises:
        UsageError: both or neither of name and series were given.
    """
    if (artifact_file is None) == (key is None):
        raise UsageError("log_image takes either artifact_file or key")
    if artifact_file is not None:
        check_artifact_path(artifact_file)
        return artifact_file if Path(artifact_file).suffix else f"{artifact_file}.png"
    from gml.tracking.recorder import now_ms

    series = _SERIES.sub("#", str(key))
    stamp = timestamp if timestamp is not None else now_ms()
    return f"images/{series}%step%{step or 0}%timestamp%{stamp}%{secrets.token_hex(4)}.png"


def image_bytes(image: Any, name: str) -> bytes:
    """Return an image in the format that the name's ending asks for.

    Args:
        image: a path (its bytes are kept as they are), a PIL image, or an array of shape (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or float between 0 and 1.
        name: artifact name.

    Raises:
        InvalidValueError: the array has another shape or range.
        NotFoundError: there is no such file.
        MissingPackageError: Pillow is not installed.
    """
    if isinstance(image, (str, os.PathLike)):
        try:
            return Path(image).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"image {os.fspath(image)!r} does not exist") from None
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("log_image needs Pillow", hint="pip install 'gitml[plot]'") from None
    if hasattr(image, "image") and hasattr(image.image, "save"):
        image = image.image
    if not isinstance(image, Image.Image):
        image = Image.fromarray(_pixels(image))
    buffer = io.BytesIO()
    ending = Path(name).suffix.lower()
    if ending in {".jpg", ".jpeg"} and image.mode == "RGBA":
        image = image.convert("RGB")
    image.save(buffer, format=Image.registered_extensions().get(ending, "PNG"))
    return buffer.getvalue()


def _pixels(image: Any) -> Any:
    import numpy as np

    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in {2, 3} or (pixels.ndim == 3 and pixels.shape[2] not in {3, 4}):
        raise InvalidValueError(
            f"an image array has shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {pixels.shape}"
        )
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
    if np.issubdtype(pixels.dtype, np.floating):
        if not (low >= 0 and high <= 1):
            raise InvalidValueError(f"a float image has values from 0 to 1, not {low:g} to {high:g}")
        return np.round(pixels * 255).astype(np.uint8)
    if low < 0 or high > 255:
        raise InvalidValueError(f"an integer image has values from 0 to 255, not {low:g} to {high:g}")
    return pixels.astype(np.uint8)


def table_bytes(data: Any, name: str, recorder: Recorder) -> bytes:
    """Return a table as JSON in pandas' `split` shape, or as Parquet; an earlier table's rows come first.

    Raises:
        UsageError: the name ends neither in .json nor in .parquet, or the data is no table.
    """
    import pandas as pd

    frame = data if isinstance(data, pd.DataFrame) else _frame(data)
    earlier = _earlier(name, recorder)
    if name.endswith(".json"):
        if earlier is not None:
            frame = pd.concat([pd.DataFrame(**json.loads(earlier)), frame], ignore_index=True)
        shape = json.loads(frame.to_json(orient="split", date_format="iso"))
        return json.dumps({"columns": shape["columns"], "data": shape["data"]}, ensure_ascii=False).encode()
    if name.endswith(".parquet"):
        if earlier is not None:
            frame = pd.concat([pd.read_parquet(io.BytesIO(earlier)), frame], ignore_index=True)
        try:
            return bytes(frame.to_parquet(index=False))
        except ImportError:
            raise MissingPackageError("Parquet tables need pyarrow", hint="pip install pyarrow") from None
    raise UsageError(f"log_table cannot write {name!r}", hint="end the name with .json or .parquet")


def _frame(data: Any) -> Any:
    import pandas as pd

    if isinstance(data, dict):
        scalar = all(not isinstance(v, (list, tuple)) and not hasattr(v, "__array__") for v in data.values())
        return pd.DataFrame([data] if scalar else data)
    raise UsageError(f"log_table takes a dict of columns or a DataFrame, not {type(data).__name__}")


def _earlier(name: str, recorder: Recorder) -> bytes | None:
    from gml.tracking.contents import open_artifact
    from gml.tracking.reader import Reader

    reader = Reader(recorder.open_workspace())
    run = reader.run(recorder.run_id)
    if run is None or name not in run.artifacts:
        return None
    with open_artifact(reader, run, name) as file:
        return file.read()
