"""The pages' modules as one classic script: browsers load no modules from `file://`.

Each module becomes a function that runs once, when it is first used. Of the language of modules this knows
what ours use: `import { a, b } from "./x.js";`, `import "./x.js";`, and `export` before `const`, `function`,
`async function` and `class`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import Final

from gml.domain.errors import CorruptError

_IMPORT: Final = re.compile(r'^import (?:\{ ([\w, ]+) \} from )?"\./([\w-]+)\.js";$', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export ((?:async )?function|const|class) (\w+)", re.MULTILINE)


def static(name: str) -> str:
    """Return the text of a file that pages load."""
    return (files("gml.ui") / "static" / name).read_text("utf-8")


def module(name: str, text: str) -> str:
    r"""Return a module as a member of an object of functions.

    Raises:
        CorruptError: it uses an `import` or `export` that is not understood.

    Example:
        >>> print(module("a", 'import { b } from "./c.js";\nexport const d = b;\n'))
        a(use) {
        const { b } = use("c");
        const d = b;
        return { d };
        },
    """
    names = [found[2] for found in _EXPORT.finditer(text)]

    def used(found: re.Match[str]) -> str:
        return f'const {{ {found[1]} }} = use("{found[2]}");' if found[1] else f'use("{found[2]}");'

    body = _EXPORT.sub(r"\1 \2", _IMPORT.sub(used, text))
    left = re.search(r"^(?:import|export)\b.*", body, re.MULTILINE)
    if left:
        raise CorruptError(f"static/{name}.js: cannot make a classic script of `{left[0]}`")
    return f"{name}(use) {{\n{body.rstrip()}\nreturn {{ {', '.join(names)} }};\n}},"


@lru_cache(maxsize=1)
def script() -> str:
    """Return all modules as one script; `<html data-modules>` says which of them a page wants."""
    names = sorted(
        path.name.removesuffix(".js")
        for path in (files("gml.ui") / "static").iterdir()
        if path.name.endswith(".js")
    )
    members = "\n".join(module(name, static(f"{name}.js")) for name in names)
    return (
        '(() => {\n"use strict";\nconst modules = {\n'
        + members
        + "\n};\nconst made = {};\nconst use = (name) => (made[name] ??= modules[name](use));\n"
        'for (const name of document.documentElement.dataset.modules.split(" ")) use(name);\n})();\n'
    )
