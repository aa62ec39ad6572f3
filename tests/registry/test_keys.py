"""Every kind of SSH key: what ssh-keygen signs is accepted here, what is accepted here ssh-keygen accepts too."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gml.domain.errors import GmlError
from gml.git.discover import open_store
from gml.policy.errors import RefusedError
from gml.policy.sshsig import PublicKey, parse_key, parse_signature, string
from gml.registry.keys import verify
from gml.registry.signing import find_signer

SPACE = "gml-approval-v1"
MESSAGE = b'{\n "type": "approval"\n}\n'
APPLICATION = b"ssh:"
PRESENT = 1


def keygen(*args: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *args], input=data, capture_output=True, check=False)


def ssh_accepts(tmp_path, key: PublicKey, armour: str, message: bytes = MESSAGE) -> bool:
    """Whether ssh-keygen finds the signature good; it needs no hardware for that."""
    signers, file = tmp_path / "signers", tmp_path / "sig"
    signers.write_text(f"bob {key}\n")
    file.write_text(armour)
    return keygen(
        "-Y", "verify", "-f", str(signers), "-I", "bob", "-n", SPACE, "-s", str(file), data=message
    ).returncode == 0  # fmt: skip


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def armour(key: PublicKey, algorithm: str, value: bytes, trailer: bytes = b"", digest: str = "sha512") -> str:
    inner = string(algorithm.encode()) + string(value) + trailer
    blob = b"SSHSIG\0\0\0\1" + b"".join(map(string, (key.blob, SPACE.encode(), b"", digest.encode(), inner)))
    text = base64.b64encode(blob).decode()
    lines = [text[i : i + 70] for i in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def to_be_signed(message: bytes = MESSAGE) -> bytes:
    return b"SSHSIG" + b"".join(
        map(string, (SPACE.encode(), b"", b"sha512", hashlib.sha512(message).digest()))
    )


class SoftKey:
    """A security key in software: signs what such a device signs, with the touch that it is told."""

    def __init__(self, kind: str) -> None:
        if kind == "ed25519":
            self.private = Ed25519PrivateKey.generate()
            name = "sk-ssh-ed25519@openssh.com"
            parts = [name.encode(), self.private.public_key().public_bytes_raw(), APPLICATION]
        else:
            self.private = ec.generate_private_key(ec.SECP256R1())
            name = "sk-ecdsa-sha2-nistp256@openssh.com"
            point = self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            parts = [name.encode(), b"nistp256", point, APPLICATION]
        self.public = PublicKey(name, b"".join(map(string, parts)))

    def sign(self, flags: int = PRESENT, counter: int = 7, application: bytes = APPLICATION) -> str:
        trailer = bytes([flags]) + counter.to_bytes(4, "big")
        digest = hashlib.sha256
        data = digest(application).digest() + trailer + digest(to_be_signed()).digest()
        if isinstance(self.private, Ed25519PrivateKey):
            value = self.private.sign(data)
        else:
            value = b"".join(
                map(mpint, decode_dss_signature(self.private.sign(data, ec.ECDSA(hashes.SHA256()))))
            )
        return armour(self.public, self.public.type, value, trailer)


KINDS = {
    "ed25519": ["-t", "ed25519"], "rsa": ["-t", "rsa", "-b", "2048"], "ecdsa-256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa-384": ["-t", "ecdsa", "-b", "384"], "ecdsa-521": ["-t", "ecdsa", "-b", "521"],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_ssh_keygen(repo, tmp_path, kind):
    file = tmp_path / "key"
    assert keygen("-q", *KINDS[kind], "-N", "", "-f", str(file)).returncode == 0
    store = open_store(repo.path, environ=repo.env())
    signer = find_signer(store, str(file))
    signed = signer.sign(MESSAGE, SPACE)
    assert verify(signer.public, MESSAGE, parse_signature(signed))
    assert ssh_accepts(tmp_path, signer.public, signed)
    assert not verify(signer.public, MESSAGE + b" ", parse_signature(signed))
    other = tmp_path / "other"
    keygen("-q", *KINDS[kind], "-N", "", "-f", str(other))
    assert not verify(find_signer(store, str(other)).public, MESSAGE, parse_signature(signed))


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_security_key_in_software(tmp_path, kind):
    key = SoftKey(kind)
    signed = key.sign()
    assert ssh_accepts(tmp_path, key.public, signed)
    assert verify(key.public, MESSAGE, parse_signature(signed))
    assert parse_key(str(key.public)) == key.public
    assert verify(key.public, MESSAGE, parse_signature(key.sign(flags=PRESENT | 4)))


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize("change", [{"flags": 0}, {"flags": 4}, {"application": b"ssh:other"}])
def test_a_security_key_that_was_not_touched_or_is_another(kind, change):
    key = SoftKey(kind)
    assert not verify(key.public, MESSAGE, parse_signature(key.sign(**change)))


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_security_key_whose_counter_was_changed(kind):
    key = SoftKey(kind)
    signature = parse_signature(key.sign(counter=7))
    from dataclasses import replace

    for trailer in (b"\1\0\0\0\x08", b"", signature.trailer + b"\0"):
        assert not verify(key.public, MESSAGE, replace(signature, trailer=trailer))


def rsa_key(bits: int):
    private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    numbers = private.public_key().public_numbers()
    return private, PublicKey("ssh-rsa", string(b"ssh-rsa") + mpint(numbers.e) + mpint(numbers.n))


@pytest.mark.parametrize(
    ("bits", "algorithm", "digest", "good"),
    [
        (2048, "rsa-sha2-512", hashes.SHA512(), True),
        (2048, "rsa-sha2-256", hashes.SHA256(), True),
        (2048, "ssh-rsa", hashes.SHA1(), False),
        (2048, "rsa-sha2-256", hashes.SHA512(), False),
        (2040, "rsa-sha2-512", hashes.SHA512(), False),
        (1024, "rsa-sha2-512", hashes.SHA512(), False),
    ],
)
def test_rsa_is_neither_short_nor_sha1(bits, algorithm, digest, good):
    private, public = rsa_key(bits)
    value = private.sign(to_be_signed(), padding.PKCS1v15(), digest)
    assert verify(public, MESSAGE, parse_signature(armour(public, algorithm, value))) is good


def test_one_algorithm_under_the_name_of_another():
    key = Ed25519PrivateKey.generate()
    public = PublicKey("ssh-ed25519", string(b"ssh-ed25519") + string(key.public_key().public_bytes_raw()))
    value = key.sign(to_be_signed())
    assert verify(public, MESSAGE, parse_signature(armour(public, "ssh-ed25519", value)))
    for name in ("rsa-sha2-512", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", "none", ""):
        assert not verify(public, MESSAGE, parse_signature(armour(public, name, value)))
    assert not verify(public, MESSAGE, parse_signature(armour(public, "ssh-ed25519", value, b"\1\0\0\0\0")))


def test_a_curve_that_is_not_accepted():
    blob = string(b"ecdsa-sha2-nistp256") + string(b"secp256k1") + string(b"\4" + b"\1" * 64)
    public = PublicKey("ecdsa-sha2-nistp256", blob)
    assert not verify(public, MESSAGE, parse_signature(armour(public, public.type, mpint(1) + mpint(1))))


@pytest.mark.parametrize("kind", ["ssh-dss", "ssh-ed25519-cert-v01@openssh.com", "x"])
def test_kinds_of_keys_that_are_refused(kind):
    with pytest.raises(RefusedError):
        parse_key(f"{kind} AAAA")


@pytest.fixture
def agent(tmp_path):
    """Return the environment of an ssh-agent of this test."""
    done = subprocess.run(
        ["ssh-agent", "-s", "-a", str(tmp_path / "agent")], capture_output=True, text=True, check=True
    )
    pid = re.search(r"SSH_AGENT_PID=(\d+)", done.stdout)[1]
    yield {"SSH_AUTH_SOCK": str(tmp_path / "agent")}
    os.kill(int(pid), 15)


def test_a_key_that_only_the_agent_has(repo, tmp_path, agent):
    file = tmp_path / "key"
    keygen("-q", "-t", "ed25519", "-N", "", "-f", str(file))
    environ = {**os.environ, **repo.env(), **agent}
    subprocess.run(["ssh-add", "-q", str(file)], env=environ, check=True, capture_output=True)
    public = (tmp_path / "key.pub").read_text()
    file.unlink()
    repo.git("config", "gml.signingKey", f"key::{public}".strip())
    signer = find_signer(open_store(repo.path, environ=environ))
    assert verify(signer.public, MESSAGE, parse_signature(signer.sign(MESSAGE, SPACE)))
    subprocess.run(["ssh-add", "-q", "-D"], env=environ, check=True, capture_output=True)
    with pytest.raises(GmlError, match=r"could not sign with SHA256.*is the key in the agent"):
        find_signer(open_store(repo.path, environ=environ)).sign(MESSAGE, SPACE)


def test_a_key_of_a_file_that_is_gone(repo, tmp_path):
    with pytest.raises(GmlError, match="cannot be read"):
        find_signer(open_store(repo.path, environ=repo.env()), str(tmp_path / "nothing"))
