"""Verifying SSH signatures: the arithmetic behind `gml.policy.view.Evidence.signed`.

ed25519, RSA (2048 bits and more), ECDSA and both kinds of security keys, with `cryptography` (0.1 ms a
signature; a process of ssh-keygen takes 5 ms). The tests compare each kind with what ssh-keygen says.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from gml.policy.errors import RefusedError
from gml.policy.sshsig import take

if TYPE_CHECKING:
    from gml.policy.sshsig import PublicKey, SshSignature

_MIN_RSA_BITS: Final = 2048
_USER_PRESENT: Final = 1


def verify(key: PublicKey, message: bytes, signature: SshSignature) -> bool:
    """Whether a key made a signature over a message.

    Namespace and owner are not looked at. A security key must have been touched.

    Example:
        >>> from gml.policy.sshsig import parse_key, parse_signature
        >>> verify(parse_key(line), b"text", parse_signature(armour))  # doctest: +SKIP
        True
    """
    from cryptography.exceptions import InvalidSignature

    if signature.key != key:
        return False
    try:
        _verify(key, signature.signed(message), signature)
    except (InvalidSignature, RefusedError, ValueError):
        return False
    return True


def _verify(key: PublicKey, data: bytes, signature: SshSignature) -> None:
    _, rest = take(key.blob, "the key")
    kind = key.type
    if kind.startswith("sk-"):
        data = _security_key_data(kind, rest, data, signature)
        kind = kind.removeprefix("sk-").partition("@")[0]
        expected = key.type
    else:
        if signature.trailer:
            raise RefusedError("signature", "something follows the signature")
        expected = kind
    if kind == "ssh-rsa":
        _rsa(rest, data, signature)
        return
    if signature.algorithm != expected:
        raise RefusedError("signature", "the algorithm is not that of the key")
    if kind == "ssh-ed25519":
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        point, _ = take(rest, "the key")
        Ed25519PublicKey.from_public_bytes(point).verify(signature.value, data)
        return
    _ecdsa(rest, data, signature)


def _security_key_data(kind: str, rest: bytes, data: bytes, signature: SshSignature) -> bytes:
    """Return what a security key signs: application, flags, counter and the digest of the data."""
    _, rest = take(rest, "the key")
    if "ecdsa" in kind:
        _, rest = take(rest, "the key")
    application, _ = take(rest, "the key")
    if len(signature.trailer) != 5 or not signature.trailer[0] & _USER_PRESENT:
        raise RefusedError("signature", "the security key was not touched")
    digest = hashlib.sha256
    return digest(application).digest() + signature.trailer + digest(data).digest()


def _integer(data: bytes) -> tuple[int, bytes]:
    value, rest = take(data, "the key")
    return int.from_bytes(value, "big"), rest


def _rsa(rest: bytes, data: bytes, signature: SshSignature) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    exponent, rest = _integer(rest)
    modulus, _ = _integer(rest)
    known = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}
    algorithm = known.get(signature.algorithm)
    if algorithm is None or modulus.bit_length() < _MIN_RSA_BITS:
        raise RefusedError("signature", "SHA-1 and RSA keys below 2048 bits are not accepted")
    public = RSAPublicNumbers(exponent, modulus).public_key()
    public.verify(signature.value, data, padding.PKCS1v15(), algorithm)


def _ecdsa(rest: bytes, data: bytes, signature: SshSignature) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    curves: dict[bytes, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
        b"nistp256": (ec.SECP256R1(), hashes.SHA256()),
        b"nistp384": (ec.SECP384R1(), hashes.SHA384()),
        b"nistp521": (ec.SECP521R1(), hashes.SHA512()),
    }
    name, rest = take(rest, "the key")
    point, _ = take(rest, "the key")
    if name not in curves:
        raise RefusedError("signature", "the curve is not accepted")
    curve, algorithm = curves[name]
    r, tail = _integer(signature.value)
    s, tail = _integer(tail)
    if tail:
        raise RefusedError("signature", "something follows the signature")
    public = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    public.verify(encode_dss_signature(r, s), data, ec.ECDSA(algorithm))
