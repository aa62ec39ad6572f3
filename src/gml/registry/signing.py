"""Signing with the SSH key that git already uses: a file, an agent, or a security key."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import NotFoundError, StorageError
from gml.policy.sshsig import PublicKey, parse_key

if TYPE_CHECKING:
    from gml.git.store import FileStore

_USUAL: Final = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_TIMEOUT: Final = 120


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs.

    Attributes:
        public: its public half.
        file: private key, or public key whose private half an agent holds; None where only the agent knows.
        environ: environment for ssh-keygen: the agent's socket, the PIN prompt.
    """

    public: PublicKey
    file: Path | None
    environ: dict[str, str]

    def sign(self, message: bytes, namespace: str) -> str:
        """Return the armoured signature over a message.

        Raises:
            StorageError: ssh-keygen did not sign; says why.
        """
        program = shutil.which("ssh-keygen", path=self.environ.get("PATH"))
        if program is None:
            raise NotFoundError("there is no ssh-keygen to sign with", hint="install the OpenSSH client")
        try:
            with tempfile.TemporaryDirectory(prefix="gml-key-") as folder:
                file = self.file or Path(folder) / "key.pub"
                if self.file is None:
                    file.write_text(f"{self.public}\n")
                done = subprocess.run(
                    [program, "-Y", "sign", "-f", str(file), "-n", namespace],
                    input=message, capture_output=True, check=False, env=self.environ, timeout=_TIMEOUT,
                )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StorageError(f"ssh-keygen did not sign: {error}") from error
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[:200]
            raise StorageError(
                f"ssh-keygen could not sign with {self.public.fingerprint}: {said}",
                hint="is the key in the agent? `ssh-add -l` lists what it has",
            )
        return done.stdout.decode("ascii")


def find_signer(store: FileStore, given: str | None = None) -> Signer:
    """Return the signing key: the given one, `gml.signingKey`, git's `user.signingKey`, or the usual file.

    Args:
        store: whose configuration counts.
        given: a file, or a public key (`ssh-ed25519 AAAA...`) that an agent has.

    Raises:
        NotFoundError: there is none, or its public half cannot be found.
    """
    environ = dict(store.environ)
    wish = given or store.config("gml.signingKey")
    if wish is None and store.config("gpg.format") == "ssh":
        wish = store.config("user.signingKey")
    home = Path(environ.get("HOME") or Path.home())
    if wish is None:
        found = next((home / ".ssh" / n for n in _USUAL if (home / ".ssh" / f"{n}.pub").is_file()), None)
        if found is None:
            raise NotFoundError(
                "there is no SSH key to sign with",
                hint="`git config gml.signingKey ~/.ssh/id_ed25519`, or make one: `ssh-keygen -t ed25519`",
            )
        wish = str(found)
    literal = wish.removeprefix("key::")
    if literal.startswith(("ssh-", "ecdsa-", "sk-")):
        return Signer(parse_key(literal), None, environ)
    path = home / wish[2:] if wish.startswith("~/") else Path(wish)
    public = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    try:
        key = parse_key(public.read_text("utf-8"))
    except OSError as error:
        raise NotFoundError(
            f"the public key {public} cannot be read ({error.strerror})", hint="see gml.signingKey"
        ) from error
    private = path.with_suffix("") if path.suffix == ".pub" else path
    return Signer(key, private if private.is_file() else public, environ)
