"""Artifacts that stay where they are: read by URL, held to their digest, followed only where that is trusted."""

import functools
import http.server
import json
import threading

import pytest

from gml.cas.elsewhere import check_url
from gml.domain.errors import CorruptError, TrustError, UsageError
from gml.tracking.contents import open_artifact
from gml.tracking.reader import Reader


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


@pytest.fixture
def web(tmp_path):
    """Return a folder and the URL under which a web server shows it."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def run(api):
    with api.start_run() as started:
        pass
    return started.info.run_id


def test_a_file_on_the_web_stays_there(repo, api, gml, run, web):
    folder, url = web
    data = b"row,score\n" + b"1,2\n" * 200_000
    (folder / "train.csv").write_bytes(data)
    gml("artifacts", "put", run, f"{url}/train.csv", "--link", "--to", "data")
    (entry,) = json.loads(gml("artifacts", "ls", run, "--json").out)
    assert (entry["path"], entry["at"], entry["size"]) == ("data/train.csv", "link", len(data))
    assert not list(repo.workspace().blobs.digests())
    with api.artifacts(run).open("data/train.csv") as file:
        assert file.read() == data
    gml("artifacts", "get", run, "data", "-o", "out")
    assert (repo.path / "out/data/train.csv").read_bytes() == data
    (folder / "train.csv").write_bytes(data[:-4] + b"1,3\n")
    assert "does not match its digest" in gml("artifacts", "get", run, "-o", "other", code=9).err
    assert not list((repo.path / "other").rglob("*.csv"))
    (folder / "train.csv").write_bytes(data + b"1,2\n")
    assert "bytes now, not" in gml("artifacts", "cat", run, "data/train.csv", code=9).err
    (folder / "train.csv").unlink()
    assert "does not exist (any more)" in gml("artifacts", "cat", run, "data/train.csv", code=4).err


def test_a_file_on_a_share_stays_there(repo, api, gml, run, tmp_path):
    share = tmp_path / "share folder"
    share.mkdir()
    (share / "model.bin").write_bytes(b"weights")
    gml("artifacts", "put", run, share / "model.bin", "--link")
    assert gml("artifacts", "cat", run, "model.bin").out == "weights"
    assert (
        "bytes are deleted where they are"
        in gml("artifacts", "shred", run, "model.bin", "--reason", "law", "-y", code=2).err
    )
    assert gml("artifacts", "push", "-q", "--remote", tmp_path / "remote").out.startswith("everything")
    # What the store has under this digest is as good.
    repo.workspace().blobs.put_bytes(b"weights")
    (share / "model.bin").unlink()
    assert gml("artifacts", "cat", run, "model.bin").out == "weights"
    assert gml("doctor").code == 0


def test_links_of_others_are_followed_where_the_user_trusts_them(repo, gml, run, web, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    folder, url = web
    (folder / "a.bin").write_bytes(b"content")
    gml("artifacts", "put", run, f"{url}/a.bin", "--link")
    (repo.path / ".git" / "gml" / "links").unlink()
    said = gml("artifacts", "cat", run, "a.bin", code=TrustError.exit_code)
    assert f"gml config --global artifacts.links '{url}/'" in said.err
    repo.git("config", "gml.artifacts.links", f"{url}/")
    gml("artifacts", "cat", run, "a.bin", code=TrustError.exit_code)
    gml("config", "--global", "artifacts.links", f"s3://elsewhere/ {url}/")
    assert gml("artifacts", "cat", run, "a.bin").out == "content"
    gml("config", "--global", "artifacts.links", f"{url}0/ {url[:-1]}")
    gml("artifacts", "cat", run, "a.bin", code=TrustError.exit_code)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://ada:secret@example.org/a.csv", "secret in it"),
        ("https://example.org/a.csv?X-Amz-Signature=abc", "secret in it"),
        ("https://example.org/folder/", "names no file"),
        ("https://example.org", "names no file"),
        ("nosuch://example.org/a.csv", "no file system"),
        ("file://host/a.csv", "names a host"),
        ("", "is empty"),
    ],
)
def test_urls_that_cannot_be_linked(url, said):
    with pytest.raises(UsageError, match=said) as caught:
        check_url(url)
    assert "secret@" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_what_is_no_file_cannot_be_linked(repo, gml, run, tmp_path):
    assert "not a regular file" in gml("artifacts", "put", run, "/dev/zero", "--link", code=2).err
    assert "no such file" in gml("artifacts", "put", run, tmp_path / "nothing", "--link", code=2).err
    reader = Reader(repo.workspace())
    assert reader.resolve(run).artifacts == {}


def test_a_link_in_memory_is_verified_before_it_is_handed_out(repo, run, gml, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    gml("artifacts", "put", run, path, "--link")
    path.write_bytes(b"CONTENT")
    reader = Reader(repo.workspace())
    with pytest.raises(CorruptError, match="does not match its digest"):
        open_artifact(reader, reader.resolve(run), "a.bin")
