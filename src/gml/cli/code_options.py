"""Options that several commands share: selecting runs by their code, and choosing a metric's value."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from gml.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gml.domain.run import Run
    from gml.tracking.code.values import Metric
    from gml.tracking.reader import Reader


def code_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select runs by code; the command gets them as one `code` argument."""

    @functools.wraps(command)
    def wrapper(
        commit: str | None, branch: str | None, author: str | None, since: str | None, until: str | None,
        dirty: bool | None, touching: tuple[str, ...], **others: Any,
    ) -> Any:  # fmt: skip
        from gml.tracking.code.selection import CodeSelection

        code = CodeSelection(commit, branch, author, since, until, dirty, touching)
        return command(code=code, **others)

    options = [
        click.option("--commit", metavar="REV|A..B", help="Only runs of this commit, or of these commits."),
        click.option("--branch", metavar="NAME", help="Only runs of this branch (not of the main line)."),
        click.option("--author", metavar="TEXT|me", help="Only runs by this person."),
        click.option("--since", metavar="TIME", help="Only runs started since TIME: 2w, 2026-06-01."),
        click.option("--until", metavar="TIME", help="Only runs started until the end of TIME."),
        click.option("--dirty/--clean", default=None, help="Only runs with (without) uncommitted changes."),
        click.option(
            "--touching", multiple=True, metavar="PATH",
            help="Only runs whose code differs at PATH from the run before (repeatable).",
        ),
    ]  # fmt: skip
    return functools.reduce(lambda inner, option: option(inner), reversed(options), wrapper)


def direction_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--higher` and `--lower`; the command gets `higher`, None where the user did not say."""
    return click.option(
        "--higher/--lower", "higher", default=None,
        help="Whether a higher or lower value is better; by default the metric's name tells (loss: lower).",
    )(command)  # fmt: skip


def value_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--best`, `--last` and `--mean`; the command gets `how`."""
    options = [
        click.option("--best", "how", flag_value="best", default=True, help="Of several runs take the best."),
        click.option("--last", "how", flag_value="last", help="Of several runs take the newest."),
        click.option("--mean", "how", flag_value="mean", help="Of several runs take the mean."),
    ]  # fmt: skip
    return functools.reduce(lambda inner, option: option(inner), reversed(options), command)


def best_pair(reader: Reader, best: str, wanted: Sequence[str], experiments: Sequence[str]) -> list[Run]:
    """Return the two runs that `gml diff --best METRIC A..B` compares, and say how they were found.

    Raises:
        UsageError: what is wanted is not one range.
        NotFoundError: a side has no runs.
    """
    from gml.tracking.code.best import best_of_sides
    from gml.tracking.code.values import metric_of
    from gml.tracking.missing import experiment_ids

    if len(wanted) != 1:
        raise UsageError("--best compares the two sides of one range", hint="such as main..feature/x")
    metric = metric_of(best)
    pair = best_of_sides(reader, metric, wanted[0], experiment_ids(reader, experiments))
    tell([*pair.notes, *guess_note(metric)])
    return [pair.a, pair.b]


def tell(lines: Sequence[str]) -> None:
    """Print notes on standard error."""
    for line in lines:
        click.echo(f"gml: {line}", err=True)


def guess_note(metric: Metric) -> list[str]:
    """Return the line that says that a metric is taken to be better lower, where its name decided so."""
    return (
        [f"lower {metric.name} is taken as better; --higher says otherwise"]
        if metric.guessed and not metric.higher
        else []
    )
