"""`gml artifacts verify|gc|du|shred`: the artifact store itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gml.cli.common import json_option, open_reader
from gml.cli.output import emit_json, is_terminal, size, table
from gml.cli.progress import transfer_progress
from gml.domain.errors import CorruptError, StorageError
from gml.domain.ids import short_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gml.tracking.storage.uses import Use
    from gml.tracking.storage.verify import Verdict


@click.command("verify")
@click.option(
    "--remote", is_flag=False, flag_value="", metavar="[NAME]",
    help="Fetch and check what a remote has, instead of the store here.",
)  # fmt: skip
@click.option("--sample", default="100%", metavar="SHARE", help="Read a random part, such as 5%.")
@click.option("--seed", type=int, metavar="N", help="Choose the same part as another time.")
@click.option(
    "--repair", is_flag=True, help="Take damaged files out, so that a put or pull brings them back."
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
def verify_command(
    remote: str | None, sample: str, seed: int | None, repair: bool, quiet: bool, as_json: bool
) -> None:
    """Read the artifact store and name what is damaged or missing, and the runs that need it.

    The exit code is 9 where something is.

    \b
    Example:
      gml artifacts verify
      gml artifacts verify --remote --sample 5%
    """
    from gml.tracking.storage.verify import parse_share, verify, verify_remote

    share = parse_share(sample)
    reader = open_reader()
    with transfer_progress(quiet=quiet or not is_terminal()) as told:

        def begin(files: int, total: int) -> Callable[[int], None]:
            told.begin("verify", files, total)
            return told.advance

        if remote is None:
            verdict = verify(reader, share=share, seed=seed, repair=repair, begin=begin)
        else:
            verdict = verify_remote(
                reader, remote or None, share=share, seed=seed, repair=repair, begin=begin
            )
    if as_json:
        emit_json(_verdict_json(verdict))
    else:
        _print_verdict(verdict)
    if verdict.damaged or verdict.absent:
        count = len(verdict.damaged)
        raise CorruptError(
            f"{count} damaged object{'' if count == 1 else 's'}, {len(verdict.absent)} missing",
            hint=None if repair else "put or pull them again; --repair makes room for that",
        )


def _print_verdict(verdict: Verdict) -> None:
    for damage, victims in verdict.damaged:
        where = f"{damage.name} ({damage.digest[:12]})" if damage.digest else damage.name
        click.echo(f"damaged  {where}: {damage.text}")
        _print_uses("needed by", victims)
    for use in verdict.absent:
        click.echo(f"missing  {use.digest[:12]}")
        _print_uses("needed by", [use])
    for name in verdict.repaired:
        click.echo(f"taken out  {name}")
    part = "" if verdict.files == verdict.total else f" of {verdict.total}"
    click.echo(f"read {verdict.files}{part} stored files, {size(verdict.size)}")


def _print_uses(what: str, found: Sequence[Use]) -> None:
    if not found:
        click.echo(f"  {what} no run")
    for use in found[:20]:
        click.echo(f"  {what} {short_id(use.run.run_id)} {use.run.name}: {use.path}")
    if len(found) > 20:
        click.echo(f"  {what} {len(found) - 20} more files")


def _use_json(use: Use) -> dict[str, object]:
    return {"run_id": use.run.run_id, "path": use.path, "sha256": use.digest, "size": use.size}


def _verdict_json(verdict: Verdict) -> dict[str, object]:
    return {
        "files": verdict.files,
        "total": verdict.total,
        "size": verdict.size,
        "damaged": [
            {
                "name": damage.name,
                "sha256": damage.digest,
                "text": damage.text,
                "needed_by": [_use_json(use) for use in victims],
            }
            for damage, victims in verdict.damaged
        ],
        "missing": [_use_json(use) for use in verdict.absent],
        "taken_out": verdict.repaired,
    }


@click.command("gc")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option(
    "--grace",
    default="14d",
    show_default=True,
    metavar="TIME",
    help="Keep what is younger, such as 14d, 12h.",
)
@json_option
def gc_command(dry_run: bool, grace: str, as_json: bool) -> None:
    """Delete what no run, model version or journal needs and no one has stored again lately.

    Needed is what any past or present state of the ledgers and registries in this repository mentions,
    those fetched from others included. It may run while others write to the same store.

    \b
    Example:
      gml artifacts gc --dry-run
      gml artifacts gc --grace 30d
    """
    from gml.tracking.storage.collect import collect, parse_duration
    from gml.tracking.storage.shred import erase_buried

    seconds = parse_duration(grace)
    reader = open_reader()
    erased = [] if dry_run else erase_buried(reader)
    done = collect(reader.workspace, grace=seconds, dry_run=dry_run)
    if as_json:
        emit_json({
            "dry_run": dry_run,
            "deleted": [{"name": stored.name, "size": stored.size} for stored in done.deleted],
            "repacked": done.repacked,
            "freed": done.freed,
            "kept": done.kept,
            "young": done.young,
            "spared": done.spared,
            "unreadable": done.damaged,
            "shredded": erased,
        })  # fmt: skip
        return
    for stored in done.deleted:
        click.echo(f"{stored.name}  {size(stored.size)}")
    for name in done.repacked:
        click.echo(f"{name}  written anew without what is not needed")
    for name in done.damaged:
        click.echo(
            f"gml: {name} cannot be read, so nothing was taken from packs; gml artifacts verify", err=True
        )
    for digest in erased:
        click.echo(f"{digest[:12]}  was shredded elsewhere")
    verb = "would free" if dry_run else "freed"
    click.echo(
        f"{verb} {size(done.freed)} ({len(done.deleted)} stored files); "
        f"{done.kept} are needed, {done.young} younger than {grace}"
    )


@click.command("du")
@click.option(
    "--by", type=click.Choice(["experiment", "run"]), default="experiment", show_default=True,
    help="What a line stands for.",
)  # fmt: skip
@json_option
def du_command(by: str, as_json: bool) -> None:
    """Show who uses the space of the artifact store, and what sharing and compression save.

    `size` counts every file as if it were stored by itself; `alone` is what nothing else needs.

    \b
    Example:
      gml artifacts du
      gml artifacts du --by run
    """
    from gml.tracking.storage.usage import usage

    reader = open_reader()
    found = usage(reader)
    experiments = {item.experiment_id: item.name for item in reader.experiments()}
    groups: dict[str, list[int]] = {}
    labels: dict[str, str] = {}
    for run_id, mine in found.runs.items():
        key = run_id if by == "run" else mine.run.experiment_id
        name = f"{short_id(run_id)} {mine.run.name}" if by == "run" else experiments.get(key, key)
        labels[key] = name
        sums = groups.setdefault(key, [0, 0, 0])
        for at, value in enumerate((mine.files, mine.size, mine.alone)):
            sums[at] += value
    ordered = sorted(groups.items(), key=lambda item: -item[1][1])
    if as_json:
        emit_json({
            "stored": found.stored, "objects": found.objects, "files": found.files, "size": found.size,
            "saved_by_sharing": found.size - found.unshared,
            "saved_by_compression": found.unshared - found.needed,
            "groups": [
                {"id": key, "name": labels[key], "files": sums[0], "size": sums[1], "alone": sums[2]}
                for key, sums in ordered
            ],
        })  # fmt: skip
        return
    table(
        [by, "files", "size", "alone"],
        [[labels[key], str(sums[0]), size(sums[1]), size(sums[2])] for key, sums in ordered],
        right=["files", "size", "alone"],
    )
    click.echo(f"stored  {size(found.stored)} in {found.objects} files, for {found.files} files of runs")
    click.echo(
        f"saved   {size(found.size - found.unshared)} by sharing, "
        f"{size(found.unshared - found.needed)} by compression"
    )
    if found.stored > found.needed:
        click.echo(f"other   {size(found.stored - found.needed)}: past states, indexes, what gc may delete")


@click.command("shred")
@click.argument("run")
@click.argument("path")
@click.option("--reason", required=True, metavar="TEXT", help="Why; stays in the history.")
@click.option("--everywhere", is_flag=True, help="Also where other runs have the same bytes.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def shred_command(run: str, path: str, reason: str, everywhere: bool, yes: bool) -> None:
    """Delete the bytes of a file of RUN for good; a tombstone in the ledger says who, when and why.

    Other clones delete theirs with `gml artifacts gc` after they have pulled the tombstone. A file in
    git cannot be shredded, and chunks that other files share stay with them.

    \b
    Example:
      gml artifacts shred @ customers.csv --reason "erasure request 17"
    """
    from gml.tracking.storage.shred import shred

    reader = open_reader()
    found = reader.resolve(run)
    if not yes:
        click.confirm(f"delete the bytes of {path} of {found.name} for good?", abort=True, err=True)
    done = shred(reader, found, path, reason, everywhere=everywhere)
    for run_id, name in done.places:
        click.echo(f"shredded {name} of {short_id(run_id)}")
    where = ", ".join(["the local store", *done.remotes])
    click.echo(f"{done.digest[:12]}, {size(done.size)}, is gone from {where}")
    if done.shared:
        click.echo(f"{size(done.shared)} of it stay as parts of other files")
    if done.failed:
        names = ", ".join(f"{name} ({why})" for name, why in done.failed)
        raise StorageError(f"it may still be in {names}", hint="repeat the command when that is in reach")
