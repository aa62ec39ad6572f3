"""The file `MLmodel`: what a model folder holds and how it is loaded, as MLflow writes and reads it."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from gml._version import __version__
from gml.domain.errors import CorruptError, InvalidValueError
from gml.models.schema import ModelSignature

NAME: Final = "MLmodel"
PYFUNC: Final = "python_function"
MAX_BYTES: Final = 4 << 20
_KNOWN: Final = {
    "flavors", "signature", "saved_input_example_info", "run_id", "artifact_path", "model_id", "model_uuid",
    "utc_time_created", "model_size_bytes", "metadata", "is_signature_from_type_hint",
    "type_hint_from_example",
}  # fmt: skip


def now() -> str:
    """Return the time as the file has it: UTC, without zone."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


@dataclass
class MLmodel:
    """Contents of an `MLmodel` file.

    Attributes:
        flavors: name -> how that flavor loads the model; `python_function` is the one every server knows.
        signature: inputs, outputs and params.
        example: where the input example is (`saved_input_example_info`).
        metadata: whatever the author of the model noted.
        run_id: run that logged it.
        artifact_path: its path within that run.
        model_id: id of the logged model.
        model_uuid: random id of the folder.
        utc_time_created: when, as text.
        model_size_bytes: size of the files beside this one.
        extra: keys that this version does not know, kept as they are.
    """

    flavors: dict[str, dict[str, Any]] = field(default_factory=dict)
    signature: ModelSignature | None = None
    example: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    run_id: str | None = None
    artifact_path: str | None = None
    model_id: str | None = None
    model_uuid: str | None = field(default_factory=lambda: uuid.uuid4().hex)
    utc_time_created: str = field(default_factory=now)
    model_size_bytes: int | None = None
    extra: dict[str, Any] = field(default_factory=lambda: {"gml_version": __version__})

    @property
    def pyfunc(self) -> dict[str, Any]:
        """What stands under the flavor `python_function`; empty without it."""
        return self.flavors.get(PYFUNC, {})

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of the file."""
        found: dict[str, Any] = {
            **self.extra,
            "flavors": self.flavors,
            "model_id": self.model_id,
            "model_uuid": self.model_uuid,
            "utc_time_created": self.utc_time_created,
        }
        optional = {
            "run_id": self.run_id,
            "artifact_path": self.artifact_path,
            "model_size_bytes": self.model_size_bytes,
            "metadata": self.metadata,
            "saved_input_example_info": self.example,
        }
        found |= {key: value for key, value in optional.items() if value is not None}
        if self.signature is not None:
            found["signature"] = self.signature.to_dict()
            found["is_signature_from_type_hint"] = self.signature.from_type_hint
            found["type_hint_from_example"] = self.signature.from_example
        return found

    def to_yaml(self) -> str:
        """Return the text of the file."""
        return yaml.safe_dump(self.to_dict(), default_flow_style=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, data: bytes, where: str = NAME) -> MLmodel:
        """Read the bytes of a file.

        Raises:
            CorruptError: it is not an MLmodel file; names `where`.
        """
        if len(data) > MAX_BYTES:
            raise CorruptError(f"{where} has {len(data)} bytes, which no MLmodel file has")
        try:
            content = yaml.load(data, Loader=_Loader)  # noqa: S506 - derived from the safe loader
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise CorruptError(f"{where} is not YAML: {' '.join(str(error).split())[:200]}") from None
        if not isinstance(content, dict) or not isinstance(content.get("flavors"), dict):
            raise CorruptError(f"{where} is not an MLmodel file: it names no flavors")
        flavors = content["flavors"]
        if any(not isinstance(value, dict) for value in flavors.values()):
            raise CorruptError(f"{where}: a flavor is not a mapping")
        try:
            return cls._from_dict(content, flavors)
        except InvalidValueError as error:
            raise CorruptError(f"{where}: {error.message}") from error

    @classmethod
    def _from_dict(cls, content: dict[str, Any], flavors: dict[str, Any]) -> MLmodel:
        signature = content.get("signature")
        parsed = ModelSignature.from_dict(signature) if isinstance(signature, dict) else None
        if parsed is not None:
            parsed.from_type_hint = bool(content.get("is_signature_from_type_hint"))
            parsed.from_example = bool(content.get("type_hint_from_example"))
        size = content.get("model_size_bytes")
        return cls(
            flavors={str(key): dict(value) for key, value in flavors.items()},
            signature=parsed,
            example=content.get("saved_input_example_info"),
            metadata=content.get("metadata"),
            run_id=_text(content.get("run_id")),
            artifact_path=_text(content.get("artifact_path")),
            model_id=_text(content.get("model_id")),
            model_uuid=_text(content.get("model_uuid")),
            utc_time_created=str(content.get("utc_time_created") or ""),
            model_size_bytes=size if isinstance(size, int) else None,
            extra={str(key): value for key, value in content.items() if key not in _KNOWN},
        )


class _Loader(yaml.SafeLoader):
    """YAML without the times that `utc_time_created` would otherwise become."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
