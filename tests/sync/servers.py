"""Real servers on loopback for the tests: openssh, and git's own CGI behind lighttpd with basic auth."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

USER, TOKEN = "x-access-token", "s3cret-t0ken"


@dataclass
class Server:
    """A running server: how to write the address of a path, and what a client needs in its environment."""

    prefix: str
    environ: dict[str, str] = field(default_factory=dict)

    def url(self, path: Path | str) -> str:
        return f"{self.prefix}{path}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, child: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if child.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {log.read_text() if log.exists() else ''}")


def find(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


@contextlib.contextmanager
def ssh_server(top: Path):
    """Run sshd as the present user with a key of its own; paths are those of this machine."""
    sshd = find("sshd")
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(top / name)], check=True)
    keys = top / "authorized"
    keys.write_text((top / "client.pub").read_text())
    port, log = free_port(), top / "log"
    config = top / "sshd_config"
    config.write_text(f"""
Port {port}
ListenAddress 127.0.0.1
HostKey {top}/host
AuthorizedKeysFile {keys}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AcceptEnv GIT_PROTOCOL
MaxStartups 200
MaxSessions 200
SetEnv GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
""")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    child = subprocess.Popen([sshd, "-D", "-f", str(config), "-E", str(log)], stdin=subprocess.DEVNULL)
    try:
        _wait(port, child, log)
        command = (
            f"ssh -F /dev/null -i {top}/client -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no "
            "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        )
        yield Server(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", {"GIT_SSH_COMMAND": command})
    finally:
        child.terminate()
        child.wait(10)


@contextlib.contextmanager
def http_server(top: Path, root: Path):
    """Run `git http-backend` behind lighttpd with basic auth; paths are those below `root`."""
    backend = Path(subprocess.check_output(["git", "--exec-path"], text=True).strip()) / "git-http-backend"
    (top / "users").write_text(f"{USER}:{TOKEN}\n")
    port, log = free_port(), top / "log"
    config = top / "lighttpd.conf"
    config.write_text(f"""
server.modules = ("mod_alias", "mod_auth", "mod_authn_file", "mod_setenv", "mod_cgi")
server.document-root = "{top}"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{log}"
server.upload-dirs = ("{top}")
alias.url = ("/git" => "{backend}")
auth.backend = "plain"
auth.backend.plain.userfile = "{top}/users"
$HTTP["url"] =~ "^/git" {{
    cgi.assign = ("" => "")
    setenv.add-environment = (
        "GIT_PROJECT_ROOT" => "{root}", "GIT_HTTP_EXPORT_ALL" => "1",
        "GIT_CONFIG_GLOBAL" => "/dev/null", "GIT_CONFIG_NOSYSTEM" => "1"
    )
    auth.require = ("" => ("method" => "basic", "realm" => "git", "require" => "valid-user"))
}}
""")
    child = subprocess.Popen(
        [find("lighttpd"), "-D", "-f", str(config)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(port, child, log)
        yield Server(f"http://127.0.0.1:{port}/git/", {"GML_TOKEN": TOKEN})
    finally:
        child.terminate()
        child.wait(10)
