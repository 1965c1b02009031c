"""Keeping an identity current: files that change are loaded, and a local CA's are renewed.

A failed look keeps the last good identity, and says so. Renewal happens in a
short-lived child, so that this process never holds a CA's key.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .ca.files import read_public
from .ca.identity import load_identity
from .errors import IdentityError, StartError
from .net.tls import Identity, Pair, make_identity
from .spiffe.bundle import Bundles, TrustBundle
from .spiffe.svid import X509Svid

_LOOK_EVERY: Final = 1.0  # seconds between looks at the files
_RETRY: Final = 30.0  # seconds before a failed renewal is tried again
_CHILD_LIMIT: Final = 60.0
_CHANGES: Final = ("svid.pem", "svid_key.pem", "svid_bundle.pem")


@dataclass(frozen=True, slots=True)
class IdentitySpec:
    """Where the identity's files are; with `ca`, who signs them anew, for whom and how long."""

    folder: Path
    name: str = ""  # NS/SA or a SPIFFE ID, asked of the local CA
    ca: Path | None = None
    trust_domain: str = ""
    ttl: str = "1h"
    names: tuple[str, ...] = ()  # DNS names and addresses for ordinary clients
    bundles: tuple[tuple[str, Path], ...] = ()  # other trust domains' roots
    makes_ca: bool = False  # whether a CA that is not there is made, and loudly


class Rotation:
    """Holds the current identity; `run` keeps it current until it is cancelled."""

    def __init__(
        self,
        spec: IdentitySpec,
        wall: Callable[[], float],
        spread: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self.spec = spec
        self.current: Identity | None = None
        self.trouble = ""  # why the last look or renewal failed
        self._wall = wall
        self._spread = spread
        self._say = say
        self._seen: object = None
        self._renew_at = float("inf")

    async def start(self) -> None:
        """Have an identity or raise StartError: nothing is served without one."""
        if self.spec.ca is not None:
            held = self._held()
            if held is None:
                await self._renew()
            elif held.renewal_time(0.0) <= self._wall():
                await self._try_renewal()  # what is held is good until its end
        self._load()

    def _held(self) -> X509Svid | None:
        """Return the identity that is wanted, if the files prove it."""
        try:
            svid = load_identity(self.spec.folder, self._wall()).svid
        except (StartError, IdentityError):
            return None
        return svid if str(svid.id) == self._wanted() else None

    def _wanted(self) -> str:
        if self.spec.name.startswith("spiffe://"):
            return self.spec.name
        namespace, _, account = self.spec.name.partition("/")
        return f"spiffe://{self.spec.trust_domain}/ns/{namespace}/sa/{account}"

    def _load(self) -> None:
        seen = self._stamp()
        try:
            files = load_identity(self.spec.folder, self._wall())
            bundles = self._bundles(files.svid.id.trust_domain, files.bundle)
            pair = Pair(files.certificate, files.key)
            self.current = make_identity(files.svid, bundles, pair, self._wall())
        except IdentityError as error:
            raise StartError(
                f"the identity in `{self.spec.folder}` is refused: {error}",
                help="issue a new one with `sidecar issue-cert`",
            ) from None
        self._seen = seen
        self.trouble = ""
        self._renew_at = files.svid.renewal_time(self._spread())

    def _bundles(self, own: str, pem: bytes) -> Bundles:
        bundles = [TrustBundle.from_pem(pem, own)]
        for domain, path in self.spec.bundles:
            try:
                bundles.append(TrustBundle.from_pem(read_public(path), domain))
            except OSError as error:
                raise StartError(
                    f"the trust bundle of `{domain}` cannot be read: {error}",
                    help="put its roots there as PEM, or take it out of `trustBundles`",
                ) from None
        return Bundles.of(bundles)

    def _stamp(self) -> object:
        paths = [self.spec.folder / name for name in _CHANGES]
        paths += [path for _, path in self.spec.bundles]
        return tuple(_mtime(path) for path in paths)

    async def run(self) -> None:
        """Look at the files every second; renew at half of the certificate's life."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if self.spec.ca is not None and self._wall() >= self._renew_at:
                await self._try_renewal()
            if self._stamp() != self._seen:
                self.look()

    def look(self) -> None:
        """Load the files now; what cannot be loaded changes nothing."""
        seen = self._stamp()
        try:
            self._load()
        except StartError as error:
            self._seen = seen  # say it once a change, not once a second
            self.trouble = str(error)
            self._say(f"the old identity stays: {error}")
            return
        assert self.current is not None
        self._say(f"new identity loaded: {self.current.svid.id}")

    async def _try_renewal(self) -> None:
        try:
            await self._renew()
        except StartError as error:
            self.trouble = str(error)
            self._renew_at = self._wall() + _RETRY * (1 + self._spread())
            self._say(f"renewal failed and is tried again: {error}")

    async def _renew(self) -> None:
        """Have a short-lived child issue a new pair. Raises StartError with what it said."""
        spec = self.spec
        assert spec.ca is not None
        command = [
            *(sys.executable, "-m", "sidecar", "issue-cert", spec.name, "-o", "json"),
            *("--out", str(spec.folder), "--ttl", spec.ttl, "--trust-domain", spec.trust_domain),
        ]
        if not spec.makes_ca:
            command += ["--ca", str(spec.ca)]
        for name in spec.names:
            command += ["--dns", name]
        child = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(_CHILD_LIMIT):
                _, said = await child.communicate()
        except TimeoutError:
            child.kill()
            raise StartError("the local CA did not sign in time") from None
        if child.returncode:
            text = said.decode(errors="replace").strip().removeprefix("error: ")
            raise StartError(f"the local CA did not sign: {text}", code=child.returncode)
        if spec.makes_ca and said:
            self._say(said.decode(errors="replace").strip())


def _mtime(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_ino, status.st_size)
