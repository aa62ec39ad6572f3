"""Servers that are started once for a module, buckets that are new for each test."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

import pytest
from proxy import breaking_proxy
from remote_servers import make_bucket, moto_s3, options, rclone_s3

from gml.cas.remote import open_remote
from gml.cas.retry import Retry

# Their bytes lie in memory where there is such a place: the disk is not what is tested here.
MEMORY = Path("/dev/shm")
QUICK = Retry(attempts=5, base=0.01, cap=0.05)


@pytest.fixture(scope="module")
def server_folder():
    """Return a folder for the bytes of servers."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None, prefix="gml-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def rclone_endpoint(server_folder):
    """Return the endpoint of a server that checks keys and digests, but not conditions."""
    served = server_folder / "s3"
    served.mkdir()
    with rclone_s3(served) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def moto_endpoint(server_folder):
    """Return the endpoint of a server that enforces conditions, but checks neither keys nor digests."""
    with moto_s3(server_folder / "moto.log") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def rclone_proxy(rclone_endpoint):
    with breaking_proxy(rclone_endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def moto_proxy(moto_endpoint):
    with breaking_proxy(moto_endpoint) as proxy:
        yield proxy


@pytest.fixture(params=["rclone", "moto"])
def proxy(request):
    """Return a proxy in front of each S3 server in turn, with no fault armed."""
    found = request.getfixturevalue(f"{request.param}_proxy")
    found.arm()
    return found


# A client of S3 takes a third of a second to make: one for each server, and other names in each test.
@pytest.fixture(scope="module")
def rclone_remote(rclone_proxy):
    return _remote(rclone_proxy)


@pytest.fixture(scope="module")
def moto_remote(moto_proxy):
    return _remote(moto_proxy)


def _remote(proxy):
    name = f"bucket-{secrets.token_hex(6)}"
    make_bucket(proxy.url, name)
    return open_remote(f"s3://{name}/team/store", options(proxy.url), retry=QUICK)


@pytest.fixture
def remote(request, proxy):
    """Return a remote behind the proxy that repeats at once."""
    kind = "rclone" if proxy is request.getfixturevalue("rclone_proxy") else "moto"
    found = request.getfixturevalue(f"{kind}_remote")
    proxy.arm()
    return found


@pytest.fixture(autouse=True)
def _no_account(monkeypatch):
    """Nothing that this machine knows about a cloud is used."""
    for name in (
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "http_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
