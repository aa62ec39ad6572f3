"""From a command template and values to a command line, in which a value can never become code.

A template without shell syntax is split into words first and the values are put in afterwards: no shell is
involved. Any other template runs in bash, and the values are its positional parameters: the script only has
`${1}` where a value stands, so bash expands it but never reads it as a command, whatever is in it.
"""

from __future__ import annotations

import re
import shlex
import string
from typing import TYPE_CHECKING, Final

from gml.domain.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHELL: Final = frozenset("|&;<>()$`\\*?[]#~!{}\n")
_BUILTINS: Final = frozenset(
    {".", "source", "cd", "exec", "exit", "export", "set", "unset", "ulimit", "umask", "alias", "type",
     "read", "command", "trap", "wait", "if", "for", "while", "until", "case", "function", "time", "test",
     "pushd", "popd", "eval"}
)  # fmt: skip
# Where bash evaluates the content of variables once more: `$((a[$(id)]))` runs `id`.
_EVALUATES: Final = re.compile(r"\(\(|\[\[|(?:^|[\s;&|(])(?:eval|let|declare|typeset|printf\s+-v)\s")
_INTERPRETER: Final = re.compile(
    r"(?:^|/)(?:python|pypy|bash|sh|zsh|dash|ksh|perl|ruby|node|Rscript|R|julia)[\d.]*$"
)
_CODE: Final = frozenset(" \t\n();'\"$`")
_KEY: Final = re.compile(r"[\w.][\w.\-/]*")
_MARKS: Final = ("\ue000", "\ue001")


def render(template: str, values: Mapping[str, str], extra: Mapping[str, str], where: str) -> list[str]:
    """Return the command line of a template.

    Args:
        template: with `{name}` for values, `{{` and `}}` for braces.
        values: of all parameters that the template may name.
        extra: further parameters, appended as `--key value`.
        where: what the template is, for errors.

    Raises:
        InvalidValueError: the template names something else, or an extra parameter cannot be an option.

    Example:
        >>> render("python train.py --alpha {alpha}", {"alpha": "0.1; rm -rf /"}, {}, "main")
        ['python', 'train.py', '--alpha', '0.1; rm -rf /']
    """
    parts = _parts(template, values, where)
    _refuse_code(parts, where)
    for key in extra:
        if not _KEY.fullmatch(key):
            raise InvalidValueError(
                f"{where}: parameter {key!r} cannot be an option", hint="use letters and digits"
            )
    words = _plain(parts, values)
    if words is not None:
        return [*words, *(word for key, value in extra.items() for word in (f"--{key}", value))]
    return _shell(parts, values, extra, where)


def _parts(template: str, values: Mapping[str, str], where: str) -> list[tuple[str, str | None]]:
    """Return literal texts, each with the name of the value that follows it."""
    if any(mark in template for mark in (*_MARKS, "\0")):
        raise InvalidValueError(f"{where}: the command has characters that no command has")
    try:
        parsed = [(a, b, c, d) for a, b, c, d in string.Formatter().parse(template)]
    except ValueError as error:
        raise InvalidValueError(
            f"{where}: the command is malformed: {error}", hint="write {{ for a brace"
        ) from None
    parts = []
    for literal, name, spec, conversion in parsed:
        if name is not None and (spec or conversion or name not in values):
            raise InvalidValueError(
                f"{where}: the command uses {{{name}}}, which is no parameter",
                hint="write {{ and }} for braces",
            )
        parts.append((literal, name))
    return parts


def _refuse_code(parts: Sequence[tuple[str, str | None]], where: str) -> None:
    """Refuse templates in which a value would become a part of some program's text."""
    if all(name is None for _, name in parts):
        return
    template = "".join(literal for literal, _ in parts)
    marked = "".join(literal + (_MARKS[0] if name is not None else "") for literal, name in parts)
    try:
        words = shlex.split(marked)
    except ValueError:
        words = marked.split()
    inline = any(
        _INTERPRETER.search(program)
        and re.fullmatch(r"-\w*[ce]", option)
        and _MARKS[0] in code
        and _CODE & set(code)
        for program, option, code in zip(words, words[1:], words[2:], strict=False)
    )
    if inline or _EVALUATES.search(template):
        raise InvalidValueError(
            f"{where}: a value would become code of the command",
            hint="put that part into a script of the project",
        )


def _plain(parts: Sequence[tuple[str, str | None]], values: Mapping[str, str]) -> list[str] | None:
    """Return the words, None where the template needs a shell."""
    if any(_SHELL & set(literal) for literal, _ in parts):
        return None
    start, end = _MARKS
    marked = "".join(literal + (f"{start}{name}{end}" if name is not None else "") for literal, name in parts)
    try:
        words = shlex.split(marked)
    except ValueError:
        return None
    first = words[0] if words else ""
    if not words or first in _BUILTINS or re.match(r"[A-Za-z_]\w*=", first):
        return None
    return [
        re.sub(f"{start}(.*?){end}", lambda match: values[match[1]], word, flags=re.DOTALL) for word in words
    ]


def _shell(
    parts: Sequence[tuple[str, str | None]], values: Mapping[str, str], extra: Mapping[str, str], where: str
) -> list[str]:
    script = ""
    given: list[str] = []
    quote = ""
    for literal, name in parts:
        quote = _quote_after(literal, quote)
        script += literal
        if name is None:
            continue
        if "\0" in values[name]:
            raise InvalidValueError(f"{where}: the value of {name} has a zero byte")
        given.append(values[name])
        place = f"${{{len(given)}}}"
        # Within quotes a value stays within them, elsewhere it is one word.
        script += {"": f'"{place}"', '"': place, "'": f"'\"{place}\"'"}[quote]
    for key, value in extra.items():
        given += [f"--{key}", value]
        script += f' "${{{len(given) - 1}}}" "${{{len(given)}}}"'
    return ["bash", "-c", script, "gml-run", *given]


def _quote_after(text: str, quote: str) -> str:
    """Return which quote is open after some shell text, given which was before."""
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\" and quote != "'":
            position += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        position += 1
    return quote
