"""Push and pull between stores, through a proxy that breaks things: all bytes right, or a clear error."""

from __future__ import annotations

import hashlib
import io
import os

import pytest
from proxy import Fault

from gml.cas.exchange import push
from gml.cas.local import LocalStore
from gml.cas.names import Kind, parse_name
from gml.cas.pull import Source, pull
from gml.domain.errors import CorruptError, StorageError

DOWNLOADS = ("status", "cut", "reset", "short", "flip", "slow", "stall")


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def other(tmp_path):
    return LocalStore(tmp_path / "other")


@pytest.fixture
def source(remote, tmp_path):
    return Source(remote, tmp_path / "indexes", jobs=4)


def fill(store, tmp_path, *, large: bool = False) -> dict[str, bytes]:
    """Put one loose blob, one that is compressed, a pack of small files, and a file in chunks if `large`."""
    contents = [os.urandom(20_000), b"text " * 5_000]
    blobs = {store.put_bytes(data).digest: data for data in contents}
    folder = tmp_path / f"files-{os.urandom(4).hex()}"
    folder.mkdir()
    for number in range(8):
        (folder / str(number)).write_bytes(os.urandom(3_000))
    if large:
        (folder / "large").write_bytes(os.urandom(17 << 20))
    paths = sorted(folder.iterdir())
    for path, blob in zip(paths, store.put_files(paths), strict=True):
        blobs[blob.digest] = path.read_bytes()
    return blobs


def check(store, blobs: dict[str, bytes]) -> None:
    for digest, data in blobs.items():
        assert store.read(digest) == data
        assert hashlib.sha256(data).hexdigest() == digest


def of_kind(kind: Kind):
    def match(method: str, path: str) -> bool:
        name = "/".join(path.partition("?")[0].split("/")[-3:])
        try:
            return method == "GET" and parse_name(name).kind is kind
        except ValueError:
            return False

    return match


def listing(method: str, path: str) -> bool:
    return method == "GET" and "list-type" in path


@pytest.mark.parametrize("proxy", ["rclone"], indirect=True)
def test_everything_arrives_on_the_other_side(store, other, remote, source, tmp_path):
    blobs = fill(store, tmp_path, large=True)
    pushed = push(store, remote, blobs, jobs=4)
    assert pushed.files > 5
    assert pushed.absent == []
    assert push(store, remote, blobs, jobs=4).files == 0
    kinds = {parse_name(name).kind for name in pushed.names}
    assert kinds == set(Kind)
    pulled = pull(source, other, blobs)
    assert pulled.absent == []
    check(other, blobs)
    assert pull(source, other, blobs).files == 0
    assert source.has(blobs) == set(blobs)


@pytest.mark.parametrize("proxy", ["moto"], indirect=True)
@pytest.mark.parametrize(
    ("what", "kind"),
    [(what, kind) for what in (Kind.BLOB, Kind.PACK) for kind in DOWNLOADS]
    + [(what, kind) for what in (Kind.COMPRESSED, Kind.INDEX) for kind in ("status", "cut", "flip")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_disturbed_download_is_repeated(store, other, remote, source, proxy, tmp_path, kind, what):
    blobs = fill(store, tmp_path)
    push(store, remote, blobs, jobs=4)
    proxy.arm(Fault(kind, at=60, match=of_kind(what)))
    pull(source, other, blobs)
    assert proxy.used() == 1
    check(other, blobs)


@pytest.mark.parametrize("proxy", ["rclone"], indirect=True)
@pytest.mark.parametrize("kind", ["status", "cut", "reset", "stall"])
def test_a_disturbed_listing_is_repeated(store, other, remote, source, proxy, tmp_path, kind):
    blobs = fill(store, tmp_path)
    push(store, remote, blobs, jobs=4)
    proxy.arm(Fault(kind, at=60, match=listing))
    pull(source, other, blobs)
    assert proxy.used() == 1
    check(other, blobs)


@pytest.mark.parametrize("proxy", ["moto"], indirect=True)
@pytest.mark.parametrize(
    ("what", "kind"),
    [(Kind.BLOB, "flip"), (Kind.PACK, "flip"), (Kind.INDEX, "flip"), (Kind.INDEX, "short")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_lying_service_is_named_and_nothing_wrong_is_kept(
    store, other, remote, source, proxy, tmp_path, kind, what
):
    blobs = fill(store, tmp_path)
    push(store, remote, blobs, jobs=4)
    proxy.arm(Fault(kind, times=1_000, at=60, match=of_kind(what)))
    with pytest.raises(CorruptError, match=r"in s3://.* is damaged"):
        pull(source, other, blobs)
    proxy.arm()
    for digest in other.digests():
        assert other.read(digest) == blobs[digest]
    pull(source, other, blobs)
    check(other, blobs)


@pytest.mark.parametrize("proxy", ["moto"], indirect=True)
def test_a_part_of_a_pack_is_fetched_alone(store, other, remote, source, proxy, tmp_path):
    blobs = fill(store, tmp_path)
    push(store, remote, blobs, jobs=4)
    wanted = [digest for digest, data in blobs.items() if len(data) == 3_000][:2]
    proxy.arm()
    done = pull(source, other, wanted)
    assert done.size <= 8 * 3_000
    check(other, {digest: blobs[digest] for digest in wanted})
    assert sorted(other.digests()) == sorted(wanted)


@pytest.mark.parametrize("proxy", ["moto"], indirect=True)
def test_a_push_that_fails_shows_no_recipe_and_no_index_without_its_bytes(
    store, other, remote, proxy, tmp_path
):
    blobs = fill(store, tmp_path, large=True)
    before = set(remote.names())
    proxy.arm(Fault("status", times=10_000, match=lambda m, path: m in {"PUT", "POST"} and "/packs/" in path))
    with pytest.raises(StorageError):
        push(store, remote, blobs, jobs=2)
    proxy.arm()
    new = {parse_name(name).kind for name, _ in set(remote.names()) - before}
    assert new <= {Kind.BLOB, Kind.COMPRESSED}
    push(store, remote, blobs, jobs=2)
    pull(Source(remote, tmp_path / "indexes"), other, blobs)
    check(other, blobs)


@pytest.mark.parametrize("proxy", ["rclone"], indirect=True)
def test_damage_here_does_not_travel(store, remote, tmp_path):
    digest = store.put_bytes(os.urandom(100_000)).digest
    (name,) = [stored.name for stored in store.names_of(digest)]
    path = store.root / name
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptError, match=digest[:12]):
        push(store, remote, [digest])
    assert remote.size(name) is None


@pytest.mark.parametrize("proxy", ["rclone"], indirect=True)
def test_what_neither_side_has_is_named(store, other, remote, source):
    absent = "ab" * 32
    assert push(store, remote, [absent]).absent == [absent]
    assert pull(source, other, [absent]).absent == [absent]
    assert source.has([absent]) == set()


@pytest.mark.parametrize("proxy", ["moto"], indirect=True)
def test_two_clones_push_the_same_at_once(store, other, remote, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    blobs = fill(store, tmp_path)
    for data in blobs.values():
        other.put_stream(io.BytesIO(data))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: push(one, remote, blobs, jobs=4), [store, other]))
    third = LocalStore(tmp_path / "third")
    pull(Source(remote, tmp_path / "indexes"), third, blobs)
    check(third, blobs)
