"""Measure how gml grows with the number of runs and print one table: a column for each size."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from run import DOCS, GML, READ, machine, measure, prepared, show, version

BEGIN, END = "<!-- growth: begin -->", "<!-- growth: end -->"
SIZES = ("1000", "10000", "100000")
QUERY = ("metrics.m1 > 0.99 and params.p0 = 'rf'", "--sort", "-metrics.m1", "-n", "100")

# (what, unit, script and arguments, fresh processes); in the order in which they are measured.
ROWS = (
    ("index from nothing", "s", (READ, "build"), 2),
    ("two predicates + sort + top 100, warm, library call", "ms", (READ, "query"), 3),
    ("the query as a cold `gml ls`", "s", (READ, "command", "ls", *QUERY), 3),
    ("`gml ls`, cold process", "s", (READ, "command", "ls"), 3),
    ("`gml show` by the short id of an old run, cold process", "s", (READ, "short"), 3),
    ("newest 1,000 complete records", "ms", (READ, "records"), 3),
    ("`gml export` of everything as CSV", "s", (READ, "export"), 1),
    ("memory of that export that is not mapped files", "MB", (READ, "export_memory"), 1),
    ("one more run seen by the index", "ms", (READ, "one_more"), 2),
    ("one more run, durable on its own", "ms", (GML, "one_more"), 2),
    ("git directory, a run", "bytes", (READ, "bytes_a_run"), 1),
    ("index, a run", "bytes", (READ, "index_bytes_a_run"), 1),
)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "sizes", nargs="*", default=SIZES, help="numbers of runs, 1000 10000 100000 by default"
    )
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--keep", type=Path, help="keep generated repositories here for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gml-growth-") as scratch:
        lines = table(options.sizes, options.keep or Path(scratch))
    if options.write:
        text = DOCS.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        body = "\n".join(lines)
        DOCS.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


def table(sizes: list[str], store: Path) -> list[str]:
    """Measure row by row and print the table as it grows; returns its lines."""
    store.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{machine()}; gml {version(sys.executable, 'gml')}.",
        "",
        f"| runs | {' | '.join(f'{int(size):,}' for size in sizes)} |",
        f"|---|{'---:|' * len(sizes)}",
    ]
    print("\n".join(lines), flush=True)
    for what, unit, script, repeat in ROWS:
        cells = [show(measure(sys.executable, script, repeat, prepared(size, store)), unit) for size in sizes]
        lines.append(f"| {what} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    main()
