"""What is sent through a proxy that breaks things is there whole, or not at all."""

from __future__ import annotations

import hashlib
import os

import pytest
from proxy import Fault

from gml.cas import s3
from gml.cas.names import Kind, stored_name
from gml.cas.remote import Source
from gml.domain.errors import NotFoundError, StorageError

PART = 5 << 20  # the least that S3 takes for all parts but the last
UPLOADS = (
    "status", "done-then-status", "refuse-upload", "short-upload", "flip-upload",
    "cut", "reset", "short", "flip", "slow", "stall",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(s3, "PART", PART)


@pytest.fixture
def small():
    return os.urandom(3_000)


@pytest.fixture
def large():
    return os.urandom(PART + 5_000)


@pytest.fixture(params=["small", "large"])
def data(request):
    return request.getfixturevalue(request.param)


def named(data: bytes) -> str:
    return stored_name(Kind.BLOB, hashlib.sha256(data).hexdigest())


def content(remote, name: str) -> bytes | None:
    """Return what a reader sees under a name."""
    size = remote.size(name)
    pieces = []
    while size:
        pieces.append(remote.fetch(name, sum(map(len, pieces)), size))
        if sum(map(len, pieces)) >= size:
            break
    return None if size is None else b"".join(pieces)


def part_two(method: str, path: str) -> bool:
    return method == "PUT" and "partNumber=2" in path


def completion(method: str, path: str) -> bool:
    return method == "POST" and "uploadId=" in path


def upload(method: str, _path: str) -> bool:
    return method in {"PUT", "POST"}


@pytest.mark.parametrize("kind", UPLOADS)
@pytest.mark.parametrize(("proxy", "at"), [("rclone", 0), ("moto", 2_999)], indirect=["proxy"])
def test_a_small_file_that_is_disturbed_arrives(remote, proxy, kind, at, small):
    there = set(remote.names())
    proxy.arm(Fault(kind, at=at, match=upload))
    told: list[int] = []
    remote.send(named(small), Source(len(small), Source.of_bytes(small).open, told.append))
    assert proxy.used() == 1
    proxy.arm()
    assert content(remote, named(small)) == small
    assert set(remote.names()) - there == {(named(small), len(small))}
    assert sum(told) == len(small)


@pytest.mark.parametrize(
    ("proxy", "where"),
    [("rclone", part_two), ("moto", completion)],
    ids=["part", "completion"],
    indirect=["proxy"],
)
@pytest.mark.parametrize("kind", UPLOADS)
def test_a_large_file_that_is_disturbed_arrives(remote, proxy, kind, where, large):
    there = set(remote.names())
    proxy.arm(Fault(kind, at=300, match=where))
    remote.send(named(large), Source.of_bytes(large))
    assert proxy.used() == 1
    proxy.arm()
    assert content(remote, named(large)) == large
    assert set(remote.names()) - there == {(named(large), len(large))}


@pytest.mark.parametrize("kind", ["status", "refuse-upload", "short-upload", "flip-upload", "stall"])
def test_what_never_gets_through_is_not_there(remote, proxy, kind, data):
    proxy.arm(Fault(kind, times=1_000, at=100, match=lambda m, _: m == "PUT"))
    with pytest.raises(StorageError, match="cannot write s3://") as caught:
        remote.send(named(data), Source.of_bytes(data))
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    proxy.arm()
    assert remote.size(named(data)) is None
    remote.send(named(data), Source.of_bytes(data))
    assert content(remote, named(data)) == data


def test_wrong_bytes_under_the_name_are_replaced(remote, proxy, data):
    remote.send(named(data), Source.of_bytes(data[:-1] + bytes([data[-1] ^ 1])))
    remote.send(named(data), Source.of_bytes(data))
    assert content(remote, named(data)) == data


def test_parts_that_arrived_before_are_not_sent_again(moto_proxy, moto_remote):
    data = os.urandom(3 * PART)
    moto_proxy.arm(Fault("status", times=1_000, match=lambda _, path: "partNumber=3" in path))
    with pytest.raises(StorageError):
        moto_remote.send(named(data), Source.of_bytes(data))
    sent = {_part(path) for method, path, kind in moto_proxy.seen if method == "PUT" and not kind}
    assert sent == {"1", "2"}
    moto_proxy.arm()
    moto_remote.send(named(data), Source.of_bytes(data))
    assert [_part(path) for method, path, _ in moto_proxy.seen if method == "PUT"] == ["3"]
    assert content(moto_remote, named(data)) == data


def _part(path: str) -> str:
    return path.rpartition("partNumber=")[2]


def test_the_second_writer_of_a_name_replaces_nothing(moto_proxy, moto_remote, small):
    moto_remote.send(named(small), Source.of_bytes(small))
    moto_proxy.arm()
    moto_remote.send(named(small), Source.of_bytes(small))
    assert [method for method, _, _ in moto_proxy.seen] == ["PUT", "HEAD"]
    assert content(moto_remote, named(small)) == small


@pytest.mark.parametrize("proxy", ["rclone"], indirect=True)
def test_a_source_that_is_shorter_than_it_said_is_not_stored(remote, small):
    with pytest.raises(StorageError, match="changed while it was read"):
        remote.send(named(small), Source(len(small) + 1, Source.of_bytes(small).open))
    assert remote.size(named(small)) is None


def test_an_absent_file(remote):
    assert remote.size(named(b"absent")) is None
    remote.delete(named(b"absent"))
    with pytest.raises(NotFoundError, match="is not in s3://"):
        remote.fetch(named(b"absent"), 0, 10)


def test_sizes_are_asked_for_one_by_one_or_by_listing(remote, proxy):
    blobs = {named(str(number).encode()): str(number).encode() for number in range(40)}
    for name, data in blobs.items():
        remote.send(name, Source.of_bytes(data))
    proxy.arm()
    absent = named(b"absent")
    assert remote.sizes([*blobs, absent]) == {name: len(data) for name, data in blobs.items()}
    assert len(proxy.seen) <= 3, "a small store is listed at once"
    proxy.arm()
    few = list(blobs)[:3]
    assert remote.sizes([*few, absent]) == {name: len(blobs[name]) for name in few}
    assert {method for method, _, _ in proxy.seen} == {"HEAD"}
