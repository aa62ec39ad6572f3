"""Finding the program in a command line: `env A=1 mpirun -n 4 python -u train.py --lr 1`."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

_PYTHON = re.compile(r"(?:python|pypy)w?[\d.]*t?(?:\.exe)?")
_SHELLS = frozenset({"bash", "sh", "zsh", "dash", "ksh", "fish"})
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


# Programs that run the program that follows: how many words each option takes (1 where listed in the
# first set, 2 in `_TWO`, otherwise 0), and how many words stand between the options and the program.
_MPI = _words(
    "n np c N H host hosts hostfile machinefile f x wdir wd path prefix map-by bind-to rank-by env genv ppn",
    "npernode npersocket report-bindings-file output-filename timeout tag-output-file",
)
_SLURM = _words(
    "n ntasks N nodes c cpus-per-task p partition A account t time J job-name G gpus gres mem w nodelist",
    "x exclude q qos o output e error D chdir gpus-per-node gpus-per-task ntasks-per-node mpi cpu-bind",
    "container-image",
)
_WRAPPERS: dict[str, tuple[frozenset[str], int]] = {
    "env": (frozenset({"u", "unset", "C", "chdir"}), 0),
    "nohup": (frozenset(), 0),
    "time": (frozenset({"o", "f", "output", "format"}), 0),
    "nice": (frozenset({"n", "adjustment"}), 0),
    "ionice": (frozenset({"c", "n", "class", "classdata"}), 0),
    "stdbuf": (frozenset({"i", "o", "e"}), 0),
    "setsid": (frozenset(), 0),
    "exec": (frozenset({"a"}), 0),
    "sudo": (frozenset({"u", "g", "user", "group", "C", "D"}), 0),
    "timeout": (frozenset({"s", "k", "signal", "kill-after"}), 1),
    "taskset": (frozenset(), 1),
    "numactl": (frozenset({"N", "m", "C", "i", "p"}), 0),
    "xvfb-run": (frozenset({"n", "s", "e", "f", "p"}), 0),
    "mpirun": (_MPI, 0),
    "mpiexec": (_MPI, 0),
    "orterun": (_MPI, 0),
    "horovodrun": (_MPI | {"p", "num-proc"}, 0),
    "srun": (_SLURM, 0),
}
_TWO = frozenset({"mca", "gmca", "omca", "genv-pair"})
_RUNNERS: dict[str, frozenset[str]] = {
    "uv": _words(
        "with with-editable with-requirements extra no-extra group no-group only-group p python package",
        "project directory env-file index default-index index-url extra-index-url f find-links w C",
        "config-setting",
    ),
    "poetry": frozenset({"C", "directory", "P", "project"}),
    "pdm": frozenset({"p", "project"}),
    "pipenv": frozenset(),
    "hatch": frozenset({"e", "env"}),
    "rye": frozenset({"pyproject"}),
    "pixi": frozenset({"e", "environment", "manifest-path"}),
    "conda": frozenset({"n", "name", "p", "prefix", "cwd"}),
    "mamba": frozenset({"n", "name", "p", "prefix", "cwd"}),
    "micromamba": frozenset({"n", "name", "p", "prefix", "cwd"}),
}
# Programs of their own options that end at the script; too many to list, so the script is looked for.
_LAUNCHERS = frozenset({"torchrun", "deepspeed", "accelerate-launch", "colossalai"})
_LAUNCHER_MODULES = frozenset(
    {"torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch", "deepspeed"}
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command line taken apart.

    Attributes:
        program: the first word that is not a wrapper such as `env` or `mpirun`; empty if there is none.
        arguments: what the user's own script gets, launchers and interpreter options taken off.
        managed: whether a project tool (`uv run`, `conda run`) chooses the environment.
        assigned: variables that `env` or the like set for it.
        script: the script file or module that an interpreter or launcher runs, empty if unknown.
    """

    program: str = ""
    arguments: list[str] = field(default_factory=list)
    managed: bool = False
    assigned: dict[str, str] = field(default_factory=dict)
    script: str = ""


def is_python(word: str) -> bool:
    """Whether a word names a Python interpreter: `python`, `/usr/bin/python3.12`, `pypy3`."""
    return _PYTHON.fullmatch(_base(word)) is not None


def parse_command(argv: list[str]) -> Command:
    """Take a command line apart; of an unknown program all words after it are its arguments.

    Example:
        >>> parse_command(["env", "A=1", "python", "-u", "train.py", "--lr", "1"]).arguments
        ['--lr', '1']
    """
    words = list(argv)
    assigned: dict[str, str] = {}
    managed = False
    while words:
        name = _base(words[0])
        if name in _WRAPPERS:
            words = _after_wrapper(words, assigned)
        elif name in _RUNNERS and "run" in words[1:]:
            managed = True
            words = _after_runner(words)
        elif name == "accelerate" and words[1:2] == ["launch"]:
            script, arguments = _launched(words[2:])
            return Command(words[0], arguments, managed, assigned, script)
        else:
            break
    if not words:
        return Command(managed=managed, assigned=assigned)
    script, arguments = _script_of(words)
    return Command(words[0], arguments, managed, assigned, script)


def _script_of(words: list[str]) -> tuple[str, list[str]]:
    name = _base(words[0])
    if is_python(words[0]):
        return _after_python(words[1:])
    if name in _SHELLS:
        return _after_shell(words[1:])
    if name in _LAUNCHERS:
        return _launched(words[1:])
    if words[0].endswith(".py"):  # what `uv run train.py` leaves
        return words[0], words[1:]
    return "", words[1:]


def _after_wrapper(words: list[str], assigned: dict[str, str]) -> list[str]:
    name = _base(words[0])
    with_value, positionals = _WRAPPERS[name]
    rest = words[1:]
    while rest:
        word = rest[0]
        if word == "--":
            rest = rest[1:]
            break
        if name == "env" and word in {"-S", "--split-string"} and len(rest) > 1:
            return ["env", *_split(rest[1]), *rest[2:]]
        if name == "env" and word.startswith("-S") and len(word) > 2:
            return ["env", *_split(word[2:]), *rest[1:]]
        if not word.startswith("-") or word == "-":
            break
        option = word.lstrip("-")
        rest = rest[3 if option in _TWO else 2 if option in with_value else 1 :]
    if name in {"env", "sudo"}:
        while rest and _ASSIGNMENT.match(rest[0]):
            key, _, value = rest[0].partition("=")
            assigned[key] = value
            rest = rest[1:]
    return rest[positionals:]


def _after_runner(words: list[str]) -> list[str]:
    with_value = _RUNNERS[_base(words[0])]
    rest = words[words.index("run", 1) + 1 :]
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest[0]
        if word == "--":
            return rest[1:]
        if word in {"-m", "--module"}:  # `uv run -m pkg`
            return ["python", "-m", *rest[1:]]
        rest = rest[2 if word.lstrip("-") in with_value else 1 :]
    return rest


def _after_python(words: list[str]) -> tuple[str, list[str]]:
    rest = words
    while rest:
        word = rest[0]
        if not word.startswith("-") or word == "-":
            return word, rest[1:]
        if word.startswith("--"):
            rest = rest[2 if word == "--check-hash-based-pycs" else 1 :]
            continue
        # Single letters may stand together, and the last may carry its value: -um pkg, -Xdev.
        for position, letter in enumerate(word[1:], 1):
            if letter not in "mcXW":
                continue
            glued = word[position + 1 :]
            value = glued or (rest[1] if len(rest) > 1 else "")
            rest = rest[0 if glued else 1 :]
            if letter == "m":
                if value in _LAUNCHER_MODULES:
                    return _launched(rest[1:])
                return value, rest[1:]
            if letter == "c":
                return "", rest[1:]
            break
        rest = rest[1:]
    return "", []


def _after_shell(words: list[str]) -> tuple[str, list[str]]:
    rest = words
    while rest and rest[0][:1] in {"-", "+"} and len(rest[0]) > 1:
        word = rest[0]
        if word == "--":
            rest = rest[1:]
            break
        if word.startswith("-") and not word.startswith("--") and word.endswith("c"):
            return "", rest[2:]
        rest = rest[2 if word in {"-o", "+o", "-O", "+O", "--rcfile", "--init-file"} else 1 :]
    return (rest[0], rest[1:]) if rest else ("", [])


def _launched(words: list[str]) -> tuple[str, list[str]]:
    """Find the script among options that we do not know: a `.py` file, or what follows `-m`."""
    for position, word in enumerate(words):
        if (
            word in {"-m", "--module"}
            and position + 1 < len(words)
            and not words[position + 1].startswith("-")
        ):
            return words[position + 1], words[position + 2 :]
        if word.endswith(".py") and not word.startswith("-"):
            return word, words[position + 1 :]
        if word == "--":
            break
    return "", []


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an unclosed quote
        return text.split()


def _base(word: str) -> str:
    return word.rsplit("/", 1)[-1]
