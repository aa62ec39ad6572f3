"""S3 and what speaks its protocol: conditional creation, MD5 on both ways, uploads in parts that go on.

A file of up to `PART` bytes is one request with its Content-MD5, so that the service itself refuses
damaged bytes; a larger one goes in parts, each with its own, and appears when all are there. What the
service says it has (ETag) is compared, because not every server checks what it is sent.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gml.cas.remote import PART, FsspecRemote, Source, changed
from gml.cas.trouble import DamagedError, explain, storage_trouble
from gml.domain.errors import NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gml.cas.retry import Retry

_MAX_PARTS: Final = 10_000
_PARTS_AT_ONCE: Final = 4
_IN_MEMORY: Final = 16
_UPLOADS: Final = 3


class S3Remote(FsspecRemote):
    """A `Remote` in a bucket.

    Args:
        url: `s3://bucket/prefix`.
        options: for s3fs, such as `profile`, `client_kwargs` or `endpoint_url`.
        retry: how patiently requests are repeated.
        jobs: requests at once that the connection should allow.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None = None,
        *,
        retry: Retry | None = None,
        jobs: int = 8,
    ) -> None:
        super().__init__(url, options, retry=retry, jobs=jobs)
        self._bucket, _, self._prefix = self.root.partition("/")
        self._conditional = True
        # What is in memory at once is bounded here, however many files and parts are under way.
        self._memory = threading.BoundedSemaphore(_IN_MEMORY)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _call(self, method: str, **arguments: Any) -> Any:
        return self.system.call_s3(method, Bucket=self._bucket, **arguments)

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield name and size of each file below a folder, a page of up to 1,000 at a time."""
        start = f"{self._key(folder)}/" if folder else (f"{self._prefix}/" if self._prefix else "")
        cut = len(self._prefix) + 1 if self._prefix else 0
        more: dict[str, str] = {}
        while True:
            page = self.attempt("list", partial(self._call, "list_objects_v2", Prefix=start, **more))
            for entry in page.get("Contents", ()):
                yield entry["Key"][cut:], int(entry["Size"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def size(self, name: str) -> int | None:
        """Return the size of a file, None when it is not there."""
        facts = self.attempt("read", lambda: self._head(name))
        return None if facts is None else int(facts["ContentLength"])

    def _head(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._call("head_object", Key=self._key(name))
        except FileNotFoundError:
            return None
        return found

    def _fetch(self, path: str, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        try:
            return bytes(self.system.cat_file(path, start=start, end=end))
        except FileNotFoundError as error:
            if explain(error).kind == "no-bucket":
                raise
            raise NotFoundError(f"{path} is not in {self.url}") from error

    def send(self, name: str, source: Source) -> None:
        """Store a file whole, verified; see `Remote.send`."""
        if source.size <= PART:
            with self._memory:
                with source.open() as file:
                    data = file.read(PART + 1)
                if len(data) != source.size:
                    raise changed(name)
                source.check()
                self.attempt("write", lambda: self._send_whole(name, data))
            source.sent(len(data))
        else:
            self._send_parts(name, source)

    def _send_whole(self, name: str, data: bytes) -> None:
        md5 = hashlib.md5(data, usedforsecurity=False)
        condition = {"IfNoneMatch": "*"} if self._conditional else {}
        try:
            answer = self._call(
                "put_object", Key=self._key(name), Body=data, ContentMD5=_b64(md5.digest()), **condition
            )
        except Exception as error:
            if condition and _not_implemented(error):
                self._conditional = False
                self._send_whole(name, data)
            elif condition and explain(error).kind == "exists":
                self._accept(name, Source.of_bytes(data), md5.hexdigest())
            else:
                raise
            return
        self._check_tag(name, answer, md5.hexdigest())

    def _accept(self, name: str, source: Source, tag: str) -> None:
        """Take what somebody else has put under a name, or take it away where it is something else.

        Raises:
            DamagedError: it was something else; the next try sends the right bytes.
        """
        facts = self._head(name)
        if facts is not None and int(facts["ContentLength"]) == source.size:
            if _tag_of(facts) == tag:
                return
            # Sent in other parts, or encrypted: only the bytes themselves can tell.
            sha = hashlib.sha256()
            with source.open() as file:
                while piece := file.read(PART):
                    sha.update(piece)
            if self._read_back(self.path(name), source.size) == sha.hexdigest():
                return
        self._call("delete_object", Key=self._key(name))
        raise DamagedError(f"{name} was there with other content")

    def _check_tag(self, name: str, answer: dict[str, Any], expected: str) -> None:
        tag = _tag_of(answer)
        if tag not in {expected, None}:
            # A server that does not check what it gets has taken something else: away with it.
            with suppress(Exception):
                self._call("delete_object", Key=self._key(name))
            raise DamagedError(f"{name} arrived damaged")

    # --- in parts -----------------------------------------------------------------------------

    def _send_parts(self, name: str, source: Source) -> None:
        for number in range(_UPLOADS):
            upload, there = self.attempt("write", partial(self._open_upload, name, fresh=number > 0))
            try:
                tags = self._send_each(name, source, upload, there)
                source.check()
                self.attempt("write", partial(self._close_upload, name, upload, tags, source))
            except StorageError as error:
                cause = error.__cause__
                if cause is None or explain(cause).kind not in {"absent", "damaged"}:
                    raise
                # Parts of an interrupted upload may be gone, or the server gave the upload up.
                with suppress(Exception):
                    self._call("abort_multipart_upload", Key=self._key(name), UploadId=upload)
                if number == _UPLOADS - 1:
                    raise storage_trouble(DamagedError(name), f"cannot write {self.url}") from error
            else:
                return

    def _send_each(
        self, name: str, source: Source, upload: str, there: dict[int, tuple[int, str]]
    ) -> list[str]:
        """Send what is not there yet; return the MD5 of each part."""
        size = PART * max(1, -(-source.size // (PART * _MAX_PARTS)))
        starts = range(0, source.size, size)

        def send(number: int) -> str:
            with self._memory:
                length = min(size, source.size - starts[number])
                with source.open() as file:
                    file.seek(starts[number])
                    data = file.read(length)
                if len(data) != length:
                    raise changed(name)
                md5 = hashlib.md5(data, usedforsecurity=False)
                if there.get(number + 1) != (length, md5.hexdigest()):
                    self.attempt("write", lambda: self._send_part(name, upload, number + 1, data, md5))
            source.sent(length)
            return md5.hexdigest()

        with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="gml-part") as pool:
            try:
                return list(pool.map(send, range(len(starts))))
            except BaseException:
                # Parts that arrived stay: the next push of this file goes on from them.
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _open_upload(self, name: str, *, fresh: bool) -> tuple[str, dict[int, tuple[int, str]]]:
        """Return an upload of this file that was interrupted, with the parts it has, or a new one."""
        key = self._key(name)
        with suppress(Exception):  # a server that cannot list them: they begin anew
            listed = {} if fresh else self._call("list_multipart_uploads", Prefix=key)
            for entry in listed.get("Uploads", ()):
                if entry["Key"] == key:
                    upload = str(entry["UploadId"])
                    return upload, self._parts_of(key, upload)
        made = self._call("create_multipart_upload", Key=key)
        return str(made["UploadId"]), {}

    def _parts_of(self, key: str, upload: str) -> dict[int, tuple[int, str]]:
        found: dict[int, tuple[int, str]] = {}
        more: dict[str, Any] = {}
        while True:
            page = self._call("list_parts", Key=key, UploadId=upload, **more)
            for part in page.get("Parts", ()):
                found[int(part["PartNumber"])] = (int(part["Size"]), str(part["ETag"]).strip('"'))
            if not page.get("IsTruncated"):
                return found
            more = {"PartNumberMarker": page["NextPartNumberMarker"]}

    def _send_part(self, name: str, upload: str, number: int, data: bytes, md5: Any) -> None:
        answer = self._call(
            "upload_part", Key=self._key(name), UploadId=upload, PartNumber=number, Body=data,
            ContentMD5=_b64(md5.digest()),
        )  # fmt: skip
        if _tag_of(answer) not in {md5.hexdigest(), None}:
            raise DamagedError(f"part {number} of {name} arrived damaged")

    def _close_upload(self, name: str, upload: str, tags: list[str], source: Source) -> None:
        joined = hashlib.md5(bytes.fromhex("".join(tags)), usedforsecurity=False).hexdigest()
        tag = f"{joined}-{len(tags)}"
        parts = [{"PartNumber": number, "ETag": f'"{part}"'} for number, part in enumerate(tags, 1)]
        condition = {"IfNoneMatch": "*"} if self._conditional else {}
        try:
            answer = self._call(
                "complete_multipart_upload", Key=self._key(name), UploadId=upload,
                MultipartUpload={"Parts": parts}, **condition,
            )  # fmt: skip
        except Exception as error:
            if condition and _not_implemented(error):
                self._conditional = False
                raise DamagedError("no conditional creation here") from error
            # `absent`: the first try did it, its answer was lost, and the upload is gone.
            if explain(error).kind not in {"absent", "exists"} or self._head(name) is None:
                raise
            self._accept(name, source, tag)
            with suppress(Exception):
                self._call("abort_multipart_upload", Key=self._key(name), UploadId=upload)
            return
        self._check_tag(name, answer, tag)


def _b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _tag_of(answer: Mapping[str, Any]) -> str | None:
    """Return the MD5 a service states, None where encryption makes its ETag something else."""
    if answer.get("SSECustomerAlgorithm") or str(answer.get("ServerSideEncryption", "")).startswith(
        "aws:kms"
    ):
        return None
    tag = str(answer.get("ETag", "")).strip('"')
    plain = tag.partition("-")[0]
    return tag if len(plain) == 32 and set(plain) <= set("0123456789abcdef") else None


def _not_implemented(error: BaseException) -> bool:
    """Whether a server has no conditional creation."""
    now: BaseException | None = error
    while now is not None:
        answer = getattr(now, "response", None)
        if isinstance(answer, dict) and answer.get("Error", {}).get("Code") in {"NotImplemented", "501"}:
            return True
        now = now.__cause__
    return False
