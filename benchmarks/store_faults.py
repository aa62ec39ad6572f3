"""Count what the artifact store survives, one line of figures for each subject.

    python benchmarks/store_faults.py proxy              # an S3 server behind a proxy that breaks things
    python benchmarks/store_faults.py damage             # flipped and truncated bytes of every class of place
    python benchmarks/store_faults.py kill               # a push of 2 GB that is killed 20 times at random
    python benchmarks/store_faults.py gc --minutes 10    # gc beside eight writers

`--scale 0.05` makes `kill` smaller, `--seed` repeats a choice. The exit code is 1 where something is lost,
wrong or silent. It needs the test dependencies (`make setup`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "scripts"), str(HERE.parent / "tests" / "remotes")]

import files  # noqa: E402
from proxy import Fault, Proxy, breaking_proxy  # noqa: E402
from remote_servers import KEY, SECRET, make_bucket, moto_s3, options, rclone_s3  # noqa: E402

from gml.cas.exchange import push  # noqa: E402
from gml.cas.local import LocalStore  # noqa: E402
from gml.cas.names import is_name  # noqa: E402
from gml.cas.pull import Source, pull  # noqa: E402
from gml.cas.remote import Remote, open_remote  # noqa: E402
from gml.cas.retry import Retry  # noqa: E402
from gml.cas.scrub import listed, scrub  # noqa: E402
from gml.cas.scrub_remote import RemoteScrub  # noqa: E402
from gml.domain.errors import GmlError  # noqa: E402

UPLOADS = ("status", "done-then-status", "refuse-upload", "short-upload", "flip-upload", "cut", "reset",
           "short", "flip", "slow", "stall")  # fmt: skip
DOWNLOADS = ("status", "cut", "reset", "short", "flip", "slow", "stall")
SHAPES = ("small", "packed", "large")
FOREVER = 1_000


@dataclass
class Count:
    """What was seen.

    Attributes:
        cases: how many faults were tried, each for certain met by a request.
        healed: the transfer succeeded all the same, and every byte was right.
        named: it failed with one clear line.
        silent: it said it succeeded, and a byte was wrong or missing.
        half: something was visible under a name that is not its content.
        other: it failed in another way than by an error of gml.
        unmet: the fault was armed, but no request came by.
    """

    cases: int = 0
    healed: int = 0
    named: int = 0
    silent: int = 0
    half: int = 0
    other: int = 0
    unmet: int = 0
    failures: list[str] = field(default_factory=list)

    def bad(self) -> int:
        """How much of it must not be."""
        return self.silent + self.half + self.other + self.unmet


def fill(store: LocalStore, folder: Path, shape: str) -> dict[str, bytes]:
    """Put files of a shape; returns content by digest."""
    folder.mkdir(parents=True)
    if shape == "small":
        data = [os.urandom(30_000), b"text " * 9_000]
        return {store.put_bytes(one).digest: one for one in data}
    contents = [os.urandom(3_000) for _ in range(9)] if shape == "packed" else [os.urandom(34 << 20)]
    paths = []
    for number, one in enumerate(contents):
        (folder / str(number)).write_bytes(one)
        paths.append(folder / str(number))
    digests = [blob.digest for blob in store.put_files(paths) if not isinstance(blob, GmlError)]
    return dict(zip(digests, contents, strict=True))


def half_objects(remote: Remote) -> list[str]:
    """Return what is visible in a remote and is not what its name promises, or needs what is not there."""
    source = Source(remote, Path(tempfile.mkdtemp()) / "indexes", 4)
    remote_scrub = RemoteScrub(source)
    found = [f"{damage.name}: {damage.text}" for damage in remote_scrub.scrub(remote_scrub.files)]
    names = {name for name, _ in remote.names() if is_name(name)}
    return found + [
        name for name in names if name.endswith(".idx") and name.removesuffix(".idx") not in names
    ]


def a_body(method: str, _path: str) -> bool:
    """Whether a request sends something."""
    return method in {"PUT", "POST"}


def a_file(method: str, path: str) -> bool:
    """Whether a request asks for a stored file."""
    return (
        method == "GET"
        and "list-type" not in path
        and any(f"/{one}/" in path for one in ("sha256", "packs", "recipes"))
    )


def through_proxy(scratch: Path) -> int:
    """Break uploads and downloads in every way, once and for ever, in front of two servers."""
    count = Count()
    for server in ("rclone", "moto"):
        with ExitStack() as stack:
            served = scratch / server
            served.mkdir()
            endpoint = stack.enter_context(
                rclone_s3(served) if server == "rclone" else moto_s3(scratch / "moto.log")
            )
            proxy = stack.enter_context(breaking_proxy(endpoint))
            make_bucket(proxy.url, "faults")
            for number, (way, shape, kind, times) in enumerate(cases()):
                name = f"{server} {way} {shape} {kind} {'once' if times == 1 else 'always'}"
                remote = open_remote(
                    f"s3://faults/{number}", options(proxy.url), retry=Retry(attempts=4, base=0.01, cap=0.05)
                )
                one_case(count, name, scratch / f"{server}-{number}", proxy, remote, way, shape, Fault(
                    kind, times=times, at=700, seconds=0.01, match=a_body if way == "upload" else a_file))  # fmt: skip
                shutil.rmtree(scratch / f"{server}-{number}")
    for failure in count.failures:
        print(f"  {failure}", file=sys.stderr)
    print(
        f"proxy: {count.cases} cases ({len(UPLOADS)} kinds of broken uploads, {len(DOWNLOADS)} of downloads; small, packed,"
        f" large; rclone and moto): {count.healed} healed, {count.named} refused in one line,"
        f" {count.silent} silent corruptions, {count.half} half objects"
        + (
            f", {count.other} other failures, {count.unmet} faults not met"
            if count.other or count.unmet
            else ""
        )
    )
    return count.bad()


def cases() -> Iterator[tuple[str, str, str, int]]:
    """Yield direction, shape, kind of fault and how often it strikes."""
    for way, kinds in (("upload", UPLOADS), ("download", DOWNLOADS)):
        for shape in SHAPES:
            for kind in kinds:
                yield way, shape, kind, 1
                if kind in {
                    "status",
                    "refuse-upload",
                    "flip-upload",
                    "short-upload",
                    "cut",
                    "flip",
                    "short",
                    "reset",
                }:
                    yield way, shape, kind, FOREVER


def one_case(
    count: Count, name: str, place: Path, proxy: Proxy, remote: Remote, way: str, shape: str, fault: Fault
) -> None:
    """Do one transfer with one fault and look at both sides afterwards."""
    proxy.arm()
    store, other = LocalStore(place / "store"), LocalStore(place / "other")
    contents = fill(store, place / "files", shape)
    if way == "download":
        push(store, remote, contents)
    source = Source(remote, place / "indexes", 4)
    proxy.arm(fault)
    failed: Exception | None = None
    try:
        if way == "upload":
            push(store, remote, contents)
        else:
            absent = pull(source, other, contents).absent
            if absent:
                failed = GmlError(f"{len(absent)} absent")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        failed = error
    met = proxy.used()
    proxy.arm()
    count.cases += 1
    count.unmet += not met
    half = half_objects(remote) + [f"{damage.name}: {damage.text}" for damage in scrub(other, listed(other))]
    count.half += bool(half)
    if half:
        count.failures.append(f"{name}: half object {half[0]}")
    if failed is not None:
        clear = isinstance(failed, GmlError) and "\n" not in str(failed)
        count.named += clear
        count.other += not clear
        if not clear:
            count.failures.append(f"{name}: {failed!r}")
        return
    if way == "upload":
        pull(Source(remote, place / "indexes-2", 4), other, contents)
    wrong = [digest for digest, data in contents.items() if not is_right(other, digest, data)]
    count.silent += bool(wrong)
    count.healed += not wrong
    if wrong or not met:
        count.failures.append(f"{name}: {'wrong bytes' if wrong else 'no request met the fault'}")


def is_right(store: LocalStore, digest: str, data: bytes) -> bool:
    """Whether a store gives exactly these bytes."""
    try:
        return store.read(digest) == data
    except GmlError:
        return False


def damage(scratch: Path, seed: int) -> int:
    """Flip and cut stored files at every class of place; each must be refused by a reader and named by verify."""
    draw = random.Random(seed)
    store = LocalStore(scratch / "store")
    contents = {}
    for shape in SHAPES:
        contents |= fill(store, scratch / shape, shape)
    named = read = tried = silent = unnamed = 0
    places: Counter[str] = Counter()
    for stored in [*listed(store), *(one for one in store.names("packs") if one.name.endswith(".idx"))]:
        path = store.root / stored.name
        good = path.read_bytes()
        path.chmod(0o644)
        for place, bad in broken(stored.name, good, draw):
            path.write_bytes(bad)
            fresh = LocalStore(store.root, scratch / f"cache-{tried}")
            tried += 1
            places[f"{kind_of(stored.name)} {place}"] += 1
            damages = list(scrub(fresh, listed(fresh)))
            found = {one.name for one in damages} & {stored.name, stored.name.removesuffix(".idx")}
            named += bool(found)
            unnamed += not found
            if not found:
                print(f"  not named: {stored.name}, {place}", file=sys.stderr)
            for digest, data in contents.items():
                try:
                    right = fresh.read(digest) == data
                except GmlError:
                    read += 1
                else:
                    silent += not right
            path.write_bytes(good)
    print(
        f"damage: {tried} flips and cuts in {len(places)} classes of places: {named} named by verify, {unnamed} not;"
        f" {read} reads refused, {silent} silent"
    )
    return unnamed + silent


def kind_of(name: str) -> str:
    """Return what a stored file is, for counting."""
    return (
        "index"
        if name.endswith(".idx")
        else f"{name.partition('/')[0]}{'.zst' if name.endswith('.zst') else ''}"
    )


def broken(name: str, good: bytes, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield a class of place, and the bytes with damage there."""
    size = len(good)
    spots = {"first": 0, "last": size - 1, "middle": size // 2, "anywhere": draw.randrange(size)}
    spots |= {"at 64 KiB": 65_536, "at 1 MiB": 1 << 20, "at 8 MiB": 8 << 20}
    for place, at in spots.items():
        # The fifth byte of a zstd frame has bits that mean nothing; the rest of its head does not.
        if at < size and not (name.endswith(".zst") and at == 4):
            yield f"flip {place}", good[:at] + bytes([good[at] ^ (1 << draw.randrange(8))]) + good[at + 1 :]
    lengths = {"to nothing": 0, "by one": size - 1, "to half": size // 2, "anywhere": draw.randrange(size)}
    for place, length in lengths.items():
        yield f"cut {place}", good[:length]
    yield "longer by one", good + b"x"
    yield "zeros", bytes(size)


def kill(scratch: Path, scale: float, kills: int, seed: int) -> int:
    """Kill a push of 2 GB many times at random; then let it end, and verify both sides."""
    draw = random.Random(seed)
    served = scratch / "s3"
    served.mkdir()
    repository = scratch / "repository"
    with rclone_s3(served) as endpoint:
        make_bucket(endpoint, "kill")
        environ = {
            **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(scratch),
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "eu-x-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

        def run(*argv: str) -> str:
            return subprocess.run(
                argv, cwd=repository, env=environ, check=True, capture_output=True, text=True
            ).stdout

        repository.mkdir()
        run("git", "init", "-q")
        run(
            "git",
            "-c",
            "user.name=k",
            "-c",
            "user.email=k@example.org",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "start",
        )
        run("gml", "log", "-q", "--", "true")
        for number in range(4):
            files.random_file(repository / f"{number}.bin", int(5e8 * scale), number)
        run("gml", "artifacts", "put", "@", *(f"{number}.bin" for number in range(4)))
        run("gml", "config", "artifacts.remote.s3.url", "s3://kill/gml")
        whole = scratch / "whole"
        began = time.monotonic()
        run("gml", "artifacts", "push", "-q", "--remote", str(whole))
        once = max(time.monotonic() - began, 1.0)
        killed = ended = 0
        for _ in range(kills):
            process = subprocess.Popen(
                ["gml", "artifacts", "push", "-q"], cwd=repository, env=environ, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            # From before the first byte until a good part of it has gone, whatever the machine can.
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.4 + draw.random() * once / 4)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
            else:
                ended += 1
            process.wait()
            remote = open_remote("s3://kill/gml", options(endpoint))
            half = half_objects(remote)
            if half:
                print(f"kill: half object after a kill: {half[0]}")
                return 1
        run("gml", "artifacts", "push", "-q")
        verified = subprocess.run(
            ["gml", "artifacts", "verify", "--remote", "s3"], cwd=repository, env=environ, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        shutil.rmtree(repository / ".git/gml/cas")
        run("gml", "artifacts", "get", "@", "-o", "out")
        wrong = [
            number
            for number in range(4)
            if _digest(repository / f"{number}.bin") != _digest(repository / f"out/{number}.bin")
        ]
    print(
        f"kill: a push of {4 * int(5e8 * scale) / 1e6:,.0f} MB killed {killed} times ({ended} had ended before), 0 half objects"
        f" after each, then complete; verify --remote: {'good' if verified.returncode == 0 else verified.stderr.strip()};"
        f" pulled again: {4 - len(wrong)} of 4 files equal"
    )
    return len(wrong) + verified.returncode


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def gc(scratch: Path, minutes: float) -> int:
    """Let gc run all the time beside eight writers that share content."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-s", "-p", "no:cacheprovider", "--timeout", str(minutes * 60 + 600),
         "tests/cas/test_store_sweep.py::test_sweeping_beside_eight_writers_for_long_loses_nothing",
         "--basetemp", str(scratch / "gc")],
        cwd=HERE.parent, env={**os.environ, "GML_SWEEP_SECONDS": str(minutes * 60)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = next((line for line in done.stdout.splitlines() if "puts checked" in line), "")
    lost = "0 lost" if done.returncode == 0 else "LOST, see above"
    if done.returncode:
        print(done.stdout[-3000:], file=sys.stderr)
    print(f"gc: beside 8 writers for {minutes:g} minutes: {said}, {lost}")
    return done.returncode


def main() -> None:
    """Parse the command line and run one subject, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", help="proxy, damage, kill, gc; all if none is named")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the 2 GB of `kill`")
    parser.add_argument("--kills", type=int, default=20, help="how often `kill` kills")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long `gc` goes on")
    parser.add_argument("--seed", type=int, default=1, help="for the same choices again")
    parser.add_argument("--folder", type=Path, help="where to work")
    asked = parser.parse_args()
    subjects: dict[str, Callable[[Path], int]] = {
        "proxy": through_proxy,
        "damage": lambda scratch: damage(scratch, asked.seed),
        "kill": lambda scratch: kill(scratch, asked.scale, asked.kills, asked.seed),
        "gc": lambda scratch: gc(scratch, asked.minutes),
    }
    unknown = set(asked.subjects) - subjects.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    bad = 0
    for name in asked.subjects or subjects:
        with tempfile.TemporaryDirectory(prefix="gml-faults-", dir=asked.folder) as scratch:
            bad += subjects[name](Path(scratch))
    sys.exit(min(bad, 1))


if __name__ == "__main__":
    main()
