"""What a model needs to be loaded: the packages whose code its files name, not the whole environment.

The names are read off the files without running them: a pickle and a skops file say which classes they
hold, code which modules it imports.
"""

from __future__ import annotations

import ast
import dis
import functools
import importlib.util
import io
import json
import pickletools
import sys
import types
import zipfile
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

# Import name -> distribution, where they differ and asking every installed package would take long.
_COMMON: Final = {
    "sklearn": "scikit-learn", "PIL": "pillow", "cv2": "opencv-python", "yaml": "PyYAML",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil", "skimage": "scikit-image", "Crypto": "pycryptodome", "gml": "gitml",
    "attr": "attrs", "sentence_transformers": "sentence-transformers", "google": "",
}  # fmt: skip
_OURS: Final = frozenset({"gml", "gitml", "mlflow"})


def pin(name: str) -> str | None:
    """Return `distribution==version` of an import or distribution name, None where none is installed.

    Example:
        >>> pin("no_such_package") is None
        True
    """
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or not top:
        return None
    for candidate in _candidates(top):
        try:
            found = metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
        return f"{candidate}=={found}"
    return None


def _candidates(top: str) -> Iterator[str]:
    if top in _COMMON:
        yield from filter(None, [_COMMON[top]])
    else:
        yield top
    yield from _installed().get(top, ())


@functools.cache
def _installed() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def requirements(modules: Iterable[str], always: Iterable[str] = ()) -> list[str]:
    """Return pinned requirements of modules and distributions, sorted; unknown ones are left out."""
    found: dict[str, str] = {}
    for name in (*always, *sorted({one.partition(".")[0] for one in modules})):
        if name.partition(".")[0] in _OURS:
            continue
        line = pin(name)
        if line is not None:
            found.setdefault(line.partition("==")[0].lower().replace("_", "-"), line)
    return sorted(found.values(), key=str.lower)


def modules_of_bytes(data: bytes) -> set[str]:
    """Return the modules that a pickle or a skops file names; empty for other formats."""
    if data[:1] == b"\x80":
        return set(_modules_of_pickle(data))
    if data[:2] == b"PK":
        return set(_modules_of_skops(data))
    return set()


def _modules_of_pickle(data: bytes) -> Iterator[str]:
    texts: list[str] = []
    before = ""
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        if opcode.name == "GLOBAL":
            yield str(argument).partition(" ")[0]
        elif isinstance(argument, str):
            texts.append(argument)
        elif opcode.name == "STACK_GLOBAL" and len(texts) >= 2:
            yield texts[-2]
        elif opcode.name == "REDUCE" and before == "TUPLE1" and texts and "subimport" in texts:
            # cloudpickle keeps a module that code uses as a call with its name.
            yield from (text for text in texts[-1:] if text.partition(".")[0] in sys.modules)
        if opcode.name not in {"MEMOIZE", "FRAME"}:
            before = opcode.name


def _modules_of_skops(data: bytes) -> Iterator[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            schema = json.loads(archive.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError):
        return
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            module = node.get("__module__")
            if isinstance(module, str):
                yield module
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def modules_of_object(model: Any) -> set[str]:
    """Return the modules that the functions of an object import while they run."""
    holders = [model] if isinstance(model, types.FunctionType) else [*vars(type(model)).values()]
    found: set[str] = set()
    for one in holders:
        function = getattr(one, "__func__", one)
        if isinstance(function, types.FunctionType):
            found |= set(_imports_of_code(function.__code__))
            for name in function.__code__.co_names:
                used = function.__globals__.get(name)
                if isinstance(used, types.ModuleType):
                    found.add(used.__name__)
                elif getattr(used, "__module__", None):
                    found.add(str(used.__module__))
    return {name for name in found if name != "__main__"}


def _imports_of_code(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME" and isinstance(instruction.argval, str):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imports_of_code(constant)


def modules_of_source(folder: Path) -> set[str]:
    """Return the modules that Python files below a folder import, except those that are among them."""
    found: set[str] = set()
    own = {path.stem if path.suffix else path.name for path in folder.rglob("*")}
    for path in sorted(folder.rglob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return {name for name in found if name.partition(".")[0] not in own}


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
