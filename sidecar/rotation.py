"""Keeping an identity current: files that change are loaded, and a CA's are renewed.

A failed look keeps the last good identity, and says so; only where a deny list cannot be
read, nobody is let in until it can. A local CA signs in a
short-lived child, so that this process never holds a CA's key; a CA elsewhere is
asked, and while it cannot be, what is held is good until its end.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .ca.authority import BACKDATE
from .ca.identity import load_identity
from .denylist import DenyList, DenyListUnread
from .errors import IdentityError, SidecarError, StartError
from .net.tls import Identity, Pair, make_identity
from .remote.ca_client import CaRefusal
from .remote.ca_enrolment import MAX_AGE, Enrolment, RemoteCa
from .remote.ca_federation import Endpoint, Federation, read_bundle
from .remote.ca_http import CaAway
from .remote.due import Due
from .spiffe.bundle import Bundles, TrustBundle
from .spiffe.id import SpiffeId
from .spiffe.svid import X509Svid

_LOOK_EVERY: Final = 1.0  # seconds between looks at the files
_PAUSE: Final = 0.05  # seconds before the next one, whatever has come due
_RETRY: Final = 30.0  # seconds before a failed renewal is tried again, at most
_REFUSED: Final = 120.0  # seconds before a CA that said no is asked again
_SOONEST: Final = 1.0  # seconds between two tries at a CA elsewhere
_LONGEST: Final = 15.0  # seconds before the CA is asked again whom to believe, once it failed
_LEFT: Final = 10  # tries of a renewal in what is left of a certificate's life
_CHILD_LIMIT: Final = 60.0
_ENROLS: Final = ("remote", "folder", "name", "trust_domain")
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
    remote: RemoteCa | None = None  # a CA elsewhere, in the place of `ca`
    endpoints: tuple[tuple[str, Endpoint], ...] = ()  # other trust domains' roots, by URL
    max_age: float = MAX_AGE  # seconds
    denied: Path | None = None  # the deny list of whoever signs, unless that is a CA elsewhere

    @property
    def identity(self) -> SpiffeId:
        """The SPIFFE ID that is asked of the CA."""
        return SpiffeId.of_short(self.name, self.trust_domain)


class Rotation:
    """Holds the current identity; `run` keeps it current until it is cancelled.

    *changed* is told whenever somebody may be believed no more who was before.
    """

    def __init__(
        self,
        spec: IdentitySpec,
        wall: Callable[[], float],
        spread: Callable[[], float],
        say: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.spec = spec
        self.current: Identity | None = None
        self.trouble = ""  # why the last look or renewal failed
        self.failed = 0  # tries of a renewal, since the last that succeeded
        self._wall = wall
        self._spread = spread
        self._say = say
        self._changed = changed
        self._seen: object = None
        self._renewal = Due(float("inf"))
        self._refresh_due = Due()
        self._unasked = _SOONEST  # seconds, twice as many after each failure to ask
        self._said = ""
        self._token: object = None
        self._enrolment = self._enrol()
        self._federation = self._federate()
        self._list = self._follow()
        self._shut_out: Identity | None = None  # what was held when the deny list became unread

    def _follow(self) -> DenyList | None:
        spec = self.spec
        if spec.denied is None:
            return None
        return DenyList(spec.denied, spec.folder if spec.ca is not None else None)

    def _enrol(self) -> Enrolment | None:
        spec = self.spec
        if spec.remote is None:
            return None
        enrolment = Enrolment(spec.remote, spec.folder, spec.identity, self._wall)
        enrolment.recall()
        return enrolment

    def _federate(self) -> Federation | None:
        spec = self.spec
        if not spec.endpoints:
            return None
        endpoints = dict(spec.endpoints)
        return Federation(endpoints, spec.folder, self._wall, self._say, spec.max_age)

    def take(self, spec: IdentitySpec) -> None:
        """Follow another *spec* from now on, if its files can be loaded."""
        before, self.spec = self.spec, spec
        if any(getattr(before, one) != getattr(spec, one) for one in _ENROLS):
            self._enrolment = self._enrol()
            self._refresh_due = Due()
        if (before.endpoints, before.folder) != (spec.endpoints, spec.folder):
            self._federation = self._federate()
        if (before.denied, before.ca, before.folder) != (spec.denied, spec.ca, spec.folder):
            self._list = self._follow()
        self.look()

    async def start(self) -> None:
        """Have an identity or raise StartError: nothing is served without one.

        Only from a CA elsewhere it may come later; until then nobody is let in.
        """
        if self._enrolment is not None:
            await self._start_elsewhere()
            return
        if self.spec.ca is not None:
            held = self._held()
            if held is None:
                await self._renew()
            elif held.renewal_time(0.0) <= self._wall():
                await self._try_renewal()  # what is held is good until its end
        self._load()

    async def _start_elsewhere(self) -> None:
        held = self._held()
        if held is None:
            await self._try_renewal()
            held = self._held()
        if held is not None:
            self.look()
            await self._tend()

    def _held(self) -> X509Svid | None:
        """Return the identity that is wanted, if the files prove it."""
        try:
            svid = load_identity(self.spec.folder, self._wall()).svid
        except (StartError, IdentityError):
            return None
        return svid if svid.id == self.spec.identity else None

    def _load(self) -> None:
        seen = self._stamp()
        before = self.current or self._shut_out
        try:
            files = load_identity(self.spec.folder, self._wall())
            bundles = self._bundles(files.svid.id.trust_domain, files.bundle)
            pair = Pair(files.certificate, files.key)
            made = make_identity(files.svid, bundles, pair, self._wall())
        except IdentityError as error:
            raise StartError(
                f"the identity in `{self.spec.folder}` is refused: {error}",
                help="issue a new one with `sidecar issue-cert`",
            ) from None
        enrolment = self._enrolment
        if enrolment is not None and enrolment.denied is not None:
            made = made.denying(enrolment.denied)
        if self._list is not None:
            made = made.denying(self._list.read(files.svid.id.trust_domain))
        self.current, self._shut_out = made, None
        self._seen = seen
        self.trouble = ""
        backdated = BACKDATE if enrolment is not None else 0.0
        now = self._wall()
        left = files.svid.renewal_time(self._spread(), backdated) - now
        # Not at once: our clock and the CA's may disagree.
        self._renewal.put_off(now, left if left > 0 else self._soonest())
        if before is not None and (before.bundles != made.bundles or self._denies_others(before)):
            self._changed()

    def _denies_others(self, before: Identity) -> bool:
        """Whether the list that is followed here says something else than it did *before*."""
        assert self.current is not None
        return self._list is not None and before.denied != self.current.denied

    def _bundles(self, own: str, pem: bytes) -> Bundles:
        bundles = [TrustBundle.from_pem(pem, own)]
        if self._federation is not None:
            bundles += self._federation.bundles()
        bundles += [self._foreign(domain, path) for domain, path in self.spec.bundles]
        return Bundles.of(bundles)

    def _foreign(self, domain: str, path: Path) -> TrustBundle:
        """Return the roots of *domain*; the last good ones, if its file is good no more."""
        try:
            return read_bundle(path, domain)
        except (OSError, StartError, IdentityError) as error:
            last = self.current.bundles.bundle_of(domain) if self.current is not None else None
            if last is None:
                raise StartError(
                    f"the trust bundle of `{domain}` cannot be read: {error}",
                    code=error.code if isinstance(error, StartError) else 1,
                    help="put its roots there as PEM, or take it out of `trustBundles`",
                ) from None
            # Our own next certificate must not wait for somebody else's roots.
            self._say(f"the old trust bundle of `{domain}` stays: {error}")
            return last

    def _stamp(self) -> object:
        paths = [self.spec.folder / name for name in _CHANGES]
        paths += [path for _, path in self.spec.bundles]
        paths += [self.spec.denied] if self.spec.denied is not None else []
        if self._federation is not None:
            paths += [self._federation.path(domain) for domain, _ in self.spec.endpoints]
        return tuple(_mtime(path) for path in paths)

    async def run(self) -> None:
        """Look at the files every second; renew at half of the certificate's life."""
        while True:
            # Files that somebody else renews are only looked at, however late that somebody is.
            due = self._renewal.at - self._wall() if self._renews else _LOOK_EVERY
            await asyncio.sleep(min(_LOOK_EVERY, max(_PAUSE, due)))
            await self._tend()

    @property
    def _renews(self) -> bool:
        return self.spec.ca is not None or self._enrolment is not None

    async def _tend(self) -> None:
        """Do what has come due."""
        if self._renews and (self._renewal.is_past(self._wall()) or self._has_new_token()):
            await self._try_renewal()
        if self._federation is not None and self.current is not None:
            await self._federation.tend()
        if self._stamp() != self._seen:
            self.look()
        if self.current is not None and self._refresh_due.is_past(self._wall()):
            await self._refresh()

    def _has_new_token(self) -> bool:
        """Whether a token was put in place that may help where none did before."""
        if self._enrolment is None or not (self.trouble or self.revoked()):
            return False
        return self._enrolment.token_stamp() != self._token

    async def _refresh(self) -> None:
        """Learn whom the CA elsewhere says to believe no more."""
        enrolment = self._enrolment
        if enrolment is None:
            self._refresh_due = Due(float("inf"))
            return
        before = enrolment.denied
        try:
            wait = await enrolment.refresh()
            self._refresh_due.put_off(self._wall(), wait)
        except (CaAway, StartError, IdentityError, OSError) as error:
            self._unasked = min(2 * self._unasked, _LONGEST)
            self._refresh_due.put_off(self._wall(), self._unasked * (1 + self._spread() / 2))
            if str(error) != self._said:
                self._said = str(error)
                self._say(f"the CA cannot be asked whom to believe: {error}")
            return
        self._said, self._unasked = "", _SOONEST
        if self._stamp() != self._seen:
            self.look()
        if enrolment.denied != before and enrolment.denied is not None:
            assert self.current is not None
            self.current = self.current.denying(enrolment.denied)
            self._changed()

    def stale(self) -> str:
        """Return why what is known of whom to believe is too old, or ""."""
        sources = (self._enrolment, self._federation)
        return next((why for one in sources if one is not None and (why := one.stale())), "")

    def revoked(self) -> str:
        """Return why the CA's deny list speaks of this very identity, or ""."""
        return self.current.revoked if self.current is not None else ""

    def look(self) -> None:
        """Load the files now; what cannot be loaded changes nothing."""
        seen, before = self._stamp(), self.current
        try:
            self._load()
        except DenyListUnread as error:
            self._seen, self.trouble = seen, str(error)
            self._shut_out, self.current = self.current or self._shut_out, None
            self._say(f"nobody is let in: {error}")
            return
        except StartError as error:
            self._seen = seen  # say it once a change, not once a second
            if self.current is not None:
                self.trouble = str(error)
                self._say(f"the old identity stays: {error}")
            elif not self.trouble:
                self.trouble = str(error)
            return
        assert self.current is not None
        if self._list is not None and self._list.stayed:
            self._say(f"`{self._list.path}` is gone, or older than the deny list known: that stays")
        if before is not None and before.svid == self.current.svid and self._denies_others(before):
            self._say("another deny list is followed")
        else:
            self._say(f"new identity loaded: {self.current.svid.id}")

    async def _try_renewal(self) -> None:
        if self._enrolment is not None:
            self._token = self._enrolment.token_stamp()
        try:
            await self._renew()
            self.failed = 0
        except (SidecarError, OSError) as error:
            self.failed += 1
            said, self.trouble = self.trouble, str(error)
            retry = _RETRY if self._enrolment is None else self._soonest()
            if isinstance(error, CaRefusal):
                retry = _REFUSED  # but a new token is tried at once
            self._renewal.put_off(self._wall(), retry * (1 + self._spread() / 2))
            if said != self.trouble:
                self._say(f"renewal failed and is tried again: {error}")

    def _soonest(self) -> float:
        """Return the seconds between two tries at a renewal: fewer as the end comes near."""
        left = self.current.svid.not_after - self._wall() if self.current is not None else 0.0
        return min(max(left / _LEFT, _SOONEST), _RETRY)

    async def _renew(self) -> None:
        if self._enrolment is not None:
            await self._enrolment.renew()
        else:
            await self._renew_here()

    async def _renew_here(self) -> None:
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
