"""Azure and Google Cloud through their emulators, where these are installed: azurite (npm), gcp-storage-emulator."""

import os
import secrets
import shutil
import sys
from pathlib import Path

import pytest
from remote_servers import free_port, running

from gml.cas.exchange import push
from gml.cas.local import LocalStore
from gml.cas.port import relative_name
from gml.cas.pull import Source, pull
from gml.cas.remote import open_remote
from gml.cas.scrub_remote import RemoteScrub
from gml.cas.store import FsspecStore
from gml.testing.blob_store import BlobStoreSuite

pytestmark = pytest.mark.heavy

# The account that every Azurite has; it is printed in its documentation.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def program(name):
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def azure(tmp_path_factory):
    adlfs = pytest.importorskip("adlfs")
    port = free_port()
    argv = [
        program("azurite-blob"),
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
        "--blobPort",
        str(port),
        "--silent",
    ]
    with running(argv, port, tmp_path_factory.mktemp("azure") / "log") as address:
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={AZURITE_KEY};"
            f"BlobEndpoint=http://{address}/devstoreaccount1;"
        )
        adlfs.AzureBlobFileSystem(connection_string=connection).mkdir("box")
        yield "abfs://box", {"connection_string": connection}


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    pytest.importorskip("gcsfs")
    port = free_port()
    argv = [program("gcp-storage-emulator"), "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory",
            "--default-bucket", "box"]  # fmt: skip
    with running(argv, port, tmp_path_factory.mktemp("google") / "log") as address:
        yield "gs://box", {"endpoint_url": f"http://{address}", "token": "anon", "project": "p"}


@pytest.fixture(params=["azure", "google"])
def cloud(request, monkeypatch):
    # gcsfs asks over gRPC what kind of bucket this is, which no emulator answers.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    url, options = request.getfixturevalue(request.param)
    return f"{url}/{secrets.token_hex(8)}", options


def test_everything_arrives_and_comes_back(cloud, tmp_path):
    store, other = LocalStore(tmp_path / "store"), LocalStore(tmp_path / "other")
    paths = []
    for number, size in enumerate((1_000, 5_000, 300_000, 34_000_000)):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(os.urandom(size))
    digests = [blob.digest for blob in store.put_files(paths)]
    remote = open_remote(*cloud)
    assert push(store, remote, digests).files == 5
    assert push(store, remote, digests).files == 0
    assert pull(Source(remote, tmp_path / "indexes", 4), other, digests).absent == []
    assert all(other.read(digest) == store.read(digest) for digest in digests)
    whole = RemoteScrub(Source(remote, tmp_path / "more", 4))
    assert list(whole.scrub(whole.files)) == []
    for name, _ in list(remote.names()):
        remote.delete(name)
    assert list(remote.names()) == []


class TestClouds(BlobStoreSuite):
    # Both libraries keep several copies of the 8 MiB that they send.
    memory = 60_000_000

    @pytest.fixture
    def store(self, cloud):
        return FsspecStore(*cloud)

    def overwrite(self, store, digest, data):
        store.remote.system.pipe_file(store.remote.path(relative_name(digest)), data)
