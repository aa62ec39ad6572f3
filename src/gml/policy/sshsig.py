"""SSH signatures as `ssh-keygen -Y sign` writes them, taken apart strictly; nothing is verified here.

The format is PROTOCOL.sshsig of OpenSSH: an armoured blob with the public key, the namespace, the hash
algorithm and the signature. What is signed is again a blob of these and the hash of the message.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from gml.policy.errors import RefusedError

BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
END: Final = "-----END SSH SIGNATURE-----"
KEY_TYPES: Final = (
    "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
)  # fmt: skip
_MAGIC: Final = b"SSHSIG"
_HASHES: Final = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_LINE: Final = re.compile(r"[A-Za-z0-9+/]{1,76}={0,2}")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An SSH public key.

    Attributes:
        type: such as `ssh-ed25519`.
        blob: the key as SSH encodes it, its type included.
    """

    type: str
    blob: bytes

    def __str__(self) -> str:
        """Return the key as authorized_keys has it, without comment."""
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -l` prints: `SHA256:...`."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class SshSignature:
    """The parts of a signature.

    Attributes:
        key: who claims to have signed.
        namespace: what for.
        hash: `sha256` or `sha512`.
        algorithm: such as `ssh-ed25519` or `rsa-sha2-512`.
        value: the signature in the algorithm's own form.
        trailer: what follows it: flags and counter of a security key.
    """

    key: PublicKey
    namespace: str
    hash: str
    algorithm: str
    value: bytes
    trailer: bytes

    def signed(self, message: bytes) -> bytes:
        """Return the bytes that the signature is about."""
        hashed = _HASHES[self.hash.encode()](message).digest()
        return _MAGIC + b"".join(map(string, (self.namespace.encode(), b"", self.hash.encode(), hashed)))


def string(data: bytes) -> bytes:
    """Return bytes as SSH writes them: their length, then themselves."""
    return len(data).to_bytes(4, "big") + data


def take(data: bytes, what: str) -> tuple[bytes, bytes]:
    """Split the first SSH string from the rest.

    Raises:
        RefusedError: the data ends before it should.
    """
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 + length:
        raise RefusedError("signature", f"{what} is cut off")
    return data[4 : 4 + length], data[4 + length :]


def parse_key(text: str) -> PublicKey:
    """Return the public key of a line such as `ssh-ed25519 AAAA... comment`.

    Raises:
        RefusedError: it is not one, or of a type that is not accepted.
    """
    kind, _, rest = text.strip().partition(" ")
    encoded = rest.strip().partition(" ")[0]
    if kind not in KEY_TYPES:
        raise RefusedError("key", f"{text[:60]!r} is not an SSH public key that can sign")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise RefusedError("key", f"the key {text[:60]!r} is not base64") from None
    if base64.b64encode(blob).decode() != encoded:
        raise RefusedError("key", f"the key {text[:60]!r} is not base64 as SSH writes it")
    inner, rest_of_blob = take(blob, "the key")
    if inner.decode("latin-1") != kind or not rest_of_blob:
        raise RefusedError("key", f"the key {text[:60]!r} is of another type inside")
    return PublicKey(kind, blob)


def parse_signature(armour: str) -> SshSignature:
    """Take an armoured signature apart.

    Raises:
        RefusedError: it is not exactly one well-formed SSH signature.
    """
    lines = armour.strip("\n").split("\n")
    if len(lines) < 3 or lines[0] != BEGIN or lines[-1] != END:
        raise RefusedError("signature", "this is not an SSH signature")
    if not all(_LINE.fullmatch(line) for line in lines[1:-1]):
        raise RefusedError("signature", "the SSH signature has stray characters")
    try:
        blob = base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error:
        raise RefusedError("signature", "the SSH signature is not base64") from None
    if blob[:6] != _MAGIC or blob[6:10] != b"\0\0\0\1":
        raise RefusedError("signature", "the SSH signature is of an unknown version")
    key, rest = take(blob[10:], "the signature")
    namespace, rest = take(rest, "the signature")
    reserved, rest = take(rest, "the signature")
    algorithm, rest = take(rest, "the signature")
    inner, rest = take(rest, "the signature")
    kind = take(key, "the key of the signature")[0].decode("latin-1")
    if kind not in KEY_TYPES or reserved or rest or algorithm not in _HASHES:
        raise RefusedError("signature", "the SSH signature has parts that are not accepted")
    name, rest = take(inner, "the signature")
    value, trailer = take(rest, "the signature")
    return SshSignature(
        key=PublicKey(kind, key),
        namespace=namespace.decode("utf-8", "replace"),
        hash=algorithm.decode(),
        algorithm=name.decode("latin-1"),
        value=value,
        trailer=trailer,
    )
