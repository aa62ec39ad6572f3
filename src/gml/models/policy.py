"""The load policy: a model's files are judged by content, and code runs only where somebody said so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.domain.errors import NotFoundError, TrustError
from gml.models.flavor import LoadOptions, flavor_of
from gml.models.formats import DATA, sniff

if TYPE_CHECKING:
    from gml.models.files import ModelFiles
    from gml.models.mlmodel import MLmodel

DATA_CLASS: Final = "data"
CODE_CLASS: Final = "code"


@dataclass(frozen=True)
class Finding:
    """Something of a model that runs code when it is loaded.

    Attributes:
        name: the file, or the part of MLmodel.
        why: what it is.
    """

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@dataclass(frozen=True)
class Verdict:
    """What loading a model means.

    Attributes:
        findings: what runs code; empty for a model of data.
        formats: file that will be read -> its format.
    """

    findings: tuple[Finding, ...]
    formats: dict[str, str]

    @property
    def format_class(self) -> str:
        """`data` or `code`."""
        return CODE_CLASS if self.findings else DATA_CLASS


def judge(files: ModelFiles, mlmodel: MLmodel, options: LoadOptions | None = None) -> Verdict:
    """Return what loading a model would do, from the bytes that would be loaded.

    Args:
        files: the model.
        mlmodel: its MLmodel file, parsed.
        options: types that the caller vouches for.
    """
    options = options or LoadOptions()
    findings: list[Finding] = []
    formats: dict[str, str] = {}
    chosen = flavor_of(mlmodel.flavors)
    if chosen is None:
        loader = mlmodel.pyfunc.get("loader_module")
        findings.append(Finding("MLmodel", f"loaded by the module {loader!r}, which is not one of gml's"))
    else:
        flavor, conf = chosen
        for expected in flavor.expected(conf, files):
            if expected.name not in files:
                raise NotFoundError(f"the model {files.origin} has no file {expected.name!r}, which it names")
            found = sniff(files.read(expected.name))
            formats[expected.name] = found
            if found not in expected.formats or found not in DATA:
                wanted = " or ".join(one for one in expected.formats if one in DATA)
                why = found if found not in DATA else f"{found} where {wanted or 'code'} was expected"
                findings.append(Finding(expected.name, why))
        if not findings:
            findings += [Finding("MLmodel", why) for why in flavor.judge(conf, files, options)]
    findings += _code_paths(files, mlmodel)
    return Verdict(tuple(findings), formats)


def _code_paths(files: ModelFiles, mlmodel: MLmodel) -> list[Finding]:
    named = {str(conf["code"]) for conf in mlmodel.flavors.values() if conf.get("code")}
    return [
        Finding(folder, f"{len(files.below(folder))} files of code that would be imported")
        for folder in sorted(named)
    ]


def check(verdict: Verdict, options: LoadOptions, origin: str) -> None:
    """Refuse a model that would run code which nobody approved.

    Raises:
        TrustError: names each file and why.
    """
    if verdict.findings and not options.code:
        listed = "; ".join(map(str, verdict.findings))
        raise TrustError(
            f"loading {origin} would run code: {listed}",
            hint="have the version approved, or say trust='code' (--trust code)",
        )
