"""Which entry points must run before which."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from gml.domain.errors import InvalidValueError, NotFoundError

if TYPE_CHECKING:
    from gml.projects.mlproject.parse import EntryPoint, Project


def steps_before(project: Project, target: EntryPoint) -> list[EntryPoint]:
    """Return an entry point and all it needs, in an order in which they can run; the target is last.

    Raises:
        NotFoundError: an entry point that is needed does not exist; names the nearest.
        InvalidValueError: they need one another in a circle, or two of them write the same file.
    """
    order: dict[str, EntryPoint] = {}
    stack: list[tuple[EntryPoint, int]] = [(target, 0)]
    path = [target.name]
    while stack:
        step, at = stack.pop()
        if at == len(step.needs):
            order[step.name] = step
            path.pop()
            continue
        stack.append((step, at + 1))
        name = step.needs[at]
        if name in path:
            circle = " needs ".join([*path[path.index(name) :], name])
            raise InvalidValueError(f"the steps of the project go in a circle: {circle}")
        if name not in order:
            stack.append((_needed(project, step, name), 0))
            path.append(name)
    _check_outs(list(order.values()))
    return list(order.values())


def _needed(project: Project, step: EntryPoint, name: str) -> EntryPoint:
    found = project.entry_points.get(name)
    if found is None:
        near = get_close_matches(name, project.entry_points, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(project.entry_points))}"
        raise NotFoundError(
            f"entry point {step.name} needs {name!r}, which the project does not have", hint=hint
        )
    return found


def _check_outs(steps: list[EntryPoint]) -> None:
    writers: list[tuple[str, str]] = []
    for step in steps:
        for out in step.outs:
            for other, writer in writers:
                if out == other or out.startswith(f"{other}/") or other.startswith(f"{out}/"):
                    both = f"{writer} and {step.name}" if writer != step.name else f"{writer} twice"
                    raise InvalidValueError(
                        f"{out!r} is written by {both}", hint="give each step outs of its own"
                    )
            writers.append((out, step.name))


def drawn(steps: list[EntryPoint], notes: dict[str, str]) -> list[str]:
    """Return the graph as lines, what a step needs below it, each with its note.

    A step that several others need is drawn below each, with its own needs only the first time.
    """
    by_name = {step.name: step for step in steps}
    rows: list[tuple[str, str]] = []
    seen: set[str] = set()
    stack: list[tuple[str, str, str]] = [(steps[-1].name, "", "")]
    while stack:
        name, lead, below = stack.pop()
        rows.append((f"{lead}{name}", notes.get(name, "")))
        if name in seen:
            continue
        seen.add(name)
        needs = by_name[name].needs
        children = []
        for at, need in enumerate(needs):
            last = at == len(needs) - 1
            children.append((need, f"{below}{'└─' if last else '├─'}", f"{below}{'  ' if last else '│ '}"))
        stack.extend(reversed(children))
    width = max(len(left) for left, _ in rows)
    return [f"{left:<{width}}  {note}".rstrip() for left, note in rows]
