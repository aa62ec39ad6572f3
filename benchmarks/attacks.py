"""Push every attack and every honest change at a real server, and print what was refused and accepted.

python benchmarks/attacks.py                 # the gate, about three minutes
python benchmarks/attacks.py --server plain  # git's own settings: fsckObjects, no force, no deletions
python benchmarks/attacks.py --list          # with a line for each
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "registry"))

from real_server import RealServer
from registry_attacks import ATTACKS, HONEST


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", choices=["gml", "plain", "none"], default="gml")
    parser.add_argument("--list", action="store_true", help="print a line for each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        server = RealServer(Path(top), Path(sys.executable).parent / "gml", options.server)
        counts = {}
        for what, table in (("attacks", ATTACKS), ("honest", HONEST)):
            refused = 0
            for name, build in table.items():
                server.reset()
                before = server.refs()
                accepted, said = server.push(server.updates(build))
                refused += not accepted
                if accepted is False and server.refs() != before:
                    raise SystemExit(f"{name} was refused and changed the server all the same")
                if options.list:
                    line = next((x for x in said.splitlines() if "gml: " in x or "error" in x), "").strip()
                    print(f"{what:8} {name:45} {'accepted' if accepted else 'refused':9} {line[:150]}")
            counts[what] = (refused, len(table))
    print(f"attacks refused: {counts['attacks'][0]} of {counts['attacks'][1]}")
    print(f"honest pushes accepted: {counts['honest'][1] - counts['honest'][0]} of {counts['honest'][1]}")


if __name__ == "__main__":
    main()
