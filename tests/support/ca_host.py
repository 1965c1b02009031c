"""A mesh over several machines, each a loopback address: a CA, and sidecars that join it.

with CaHost(tmp_path / "ca").serve() as ca, Recorder() as server:
    files = Member(tmp_path / "files", ca, "mcp-prod/files", server.url)
    ca.give_token(files)
    with files.run() as sidecar:
        sidecar.wait_ready()
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509

from .daemon import Process, Sidecar, free_port, running
from .shell import typed
from .warm import COLD, SIDECAR
from .wire import Caller, eventually

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: agents, namespace: mcp-prod}
spec:
  rules:
  - from: [{source: {namespaces: ["agent", "mcp-prod"]}}]
"""


class CaHost:
    """The machine of the CA: its folder, its server, its commands."""

    def __init__(self, folder: Path, ip: str = "127.0.0.2", *init: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ip, self.port = folder, ip, free_port()
        self.ca = folder / "certs" / "ca"
        self.process: Process
        self.cli("init", *init)

    @property
    def url(self) -> str:
        return f"https://{self.ip}:{self.port}"

    def ask(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `sidecar ca ...` on this machine."""
        return typed(self.folder, "ca", *arguments, stdin=stdin)

    def cli(self, *arguments: str) -> str:
        """Run `sidecar ca ...`; it must succeed."""
        done = self.ask(*arguments)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stdout

    def token(self, who: str, *more: str) -> str:
        return self.cli("token", who, *more).strip()

    def give_token(self, member: Member) -> None:
        """Carry a fresh token to *member*."""
        member.put_token(self.token(member.who))

    @contextmanager
    def serve(self, *terms: str) -> Iterator[CaHost]:
        """Serve for the time of the block; *terms* are arguments such as `--ttl`, `4s`."""
        self.begin(*terms)
        try:
            yield self
        finally:
            self.process.stop()

    def begin(self, *terms: str) -> None:
        argv = [*SIDECAR, "ca", "serve", "--listen", f"{self.ip}:{self.port}"]
        self.process = process = Process("ca", [*argv, *terms], self.folder)

        def up() -> bool:
            assert process.is_alive(), process.said()
            return "sidecar ca: ready" in process.said()

        eventually(up, "the CA")

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.signal(signal.SIGKILL)
        self.process.wait()

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.ca / "issued.jsonl").read_text().splitlines()
        return [one for one in map(json.loads, lines) if one["event"] == kind]


class Joined(Sidecar):
    """A running sidecar that joined, or tries to."""

    def __init__(self, member: Member, process: Process) -> None:
        super().__init__(member.folder, process, member.port, member.admin)
        self.ip = member.ip

    def caller(self, context: ssl.SSLContext) -> Caller:
        """Connect with the certificate in *context*."""
        sock = socket.create_connection((self.ip, self.port), timeout=30)
        return Caller(context.wrap_socket(sock, server_hostname=self.ip))

    def readiness(self) -> tuple[int, str]:
        """Return what `/readyz` says; 0 while nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=30)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def said(self) -> str:
        return self.process.stderr.read_text(errors="replace")

    def event(self, **wanted: object) -> dict[str, Any]:
        """Return the log line with these fields, once it is written."""

        def look() -> dict[str, Any] | None:
            return next((x for x in self.records() if wanted.items() <= x.items()), None)

        return eventually(look, f"log line {wanted}")


class Member:
    """A machine with a sidecar that has, at first, nothing but a token."""

    def __init__(
        self, folder: Path, ca: CaHost, who: str, to: str, ip: str = "127.0.0.3", **spec: Any
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.who, self.ip = folder, who, ip
        self.port, self.admin = free_port(), free_port()
        self.certs = folder / "certs" / who
        namespace, _, name = who.partition("/")
        (folder / "policies").mkdir(exist_ok=True)
        (folder / "policies" / "policy.yaml").write_text(POLICY)
        document = {
            "apiVersion": "sidecar/v1",
            "kind": "Sidecar",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "identity": {"ca": ca.url, "tokenFile": "./token"},
                "inbound": [{"listen": f"{ip}:{self.port}", "to": to}],
                "admin": {"listen": f"127.0.0.1:{self.admin}"},
                "documents": ["./policies"],
                "log": {"access": "./access.log"},
                **spec,
            },
        }
        (folder / "sidecar.yaml").write_text(json.dumps(document))

    def put_token(self, token: str) -> None:
        path = self.folder / "token.new"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(token + "\n")
        path.rename(self.folder / "token")

    @contextmanager
    def run(self, env: Mapping[str, str] | None = None) -> Iterator[Joined]:
        """Run its sidecar for the time of the block, ready or not."""
        argv = [*(COLD if env else SIDECAR), "run", "-c", "sidecar.yaml"]
        with running("sidecar", argv, self.folder, env) as process:
            yield Joined(self, process)

    def leaf(self) -> x509.Certificate:
        """Return the certificate it has now."""
        return x509.load_pem_x509_certificate((self.certs / "svid.pem").read_bytes())

    def context(self) -> ssl.SSLContext:
        """Return a context that calls with the certificate it has now."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.certs / "svid_bundle.pem")
        context.load_cert_chain(self.certs / "svid.pem", self.certs / "svid_key.pem")
        return context
