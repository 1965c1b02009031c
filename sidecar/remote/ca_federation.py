"""Bundles of other trust domains that are served by URL, kept as files and never merged.

Each is asked anew within its own refresh hint. What was there stays while it cannot
be asked, or its file was spoilt; how old it is, is said. A bundle without roots is
taken as it is: that trust domain has taken everything back.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..ca.files import PUBLIC, install, locked, read_public
from ..errors import IdentityError, StartError
from ..net.tls import client_context, judge_chain, verified_chain
from ..spiffe.bundle import MAX_BUNDLE, Bundles, TrustBundle
from ..spiffe.id import SpiffeId
from .ca_http import Asked, CaAway, ask
from .due import Due
from .fetch import FetchError, fetch

FOLDER: Final = "bundles"
_USUAL: Final = 300.0  # seconds, where no hint is given (SPIFFE Federation section 4.1)
_SOONEST: Final = 1.0
_LONGEST: Final = 3600.0
_LONGEST_RETRY: Final = 15.0
_PATIENCE: Final = 5.0  # seconds for one answer


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a bundle is served; with a SPIFFE ID, the file `bootstrap` proves who serves it."""

    url: str
    spiffe_id: str = ""
    bootstrap: Path | None = None


@dataclass(slots=True)
class _Kept:
    endpoint: Endpoint
    due: Due = field(default_factory=Due)
    seen: float = 0.0
    said: str = ""
    bundle: TrustBundle | None = None  # as it was last read
    whole: bool = True  # whether its file could be read
    retry: float = _SOONEST  # seconds, twice as many after each failure


class Federation:
    """Keeps the bundles of *endpoints*, by trust domain, in a folder within *folder*."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        folder: Path,
        wall: Callable[[], float],
        say: Callable[[str], None],
        max_age: float,
        context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        """*context* believes whom the public web's authorities vouch for."""
        self._folder = folder / FOLDER
        self._wall = wall
        self._say = say
        self._max_age = max_age
        self._web = context
        self._kept = {domain: _Kept(one) for domain, one in endpoints.items()}
        for domain, kept in self._kept.items():
            kept.seen = _time_of(self._mark(domain)) if self._read(domain) else 0.0

    def path(self, domain: str) -> Path:
        """Return the file that holds the bundle of *domain*."""
        return self._folder / f"{domain}.json"

    def _mark(self, domain: str) -> Path:
        """Return the file whose time is when the bundle was last confirmed."""
        return self._folder / f"{domain}.seen"

    def bundles(self) -> list[TrustBundle]:
        """Return the bundles that are there."""
        found = (self._read(domain) for domain in self._kept)
        return [one for one in found if one is not None]

    def stale(self) -> str:
        """Return which bundle is too old or was never had, and "" if all are well."""
        for domain, kept in self._kept.items():
            if not kept.seen:
                return f"the trust bundle of `{domain}` has not been fetched yet"
            kept.seen = min(kept.seen, self._wall())  # a clock that was set back begins anew
            age = self._wall() - kept.seen
            if age > self._max_age:
                return f"the trust bundle of `{domain}` is {age:.0f} s old"
        return ""

    async def tend(self) -> None:
        """Ask the one endpoint that has waited longest, if one is due."""
        now = self._wall()
        due = [(one.due.at, name) for name, one in self._kept.items() if one.due.is_past(now)]
        if due:
            await self._refresh(min(due)[1])

    async def _refresh(self, domain: str) -> None:
        kept = self._kept[domain]
        try:
            data = await self._asked(domain, kept.endpoint)
            bundle = TrustBundle.from_spiffe(data, domain)
            self._take(domain, data, bundle)
        except (CaAway, FetchError, IdentityError, StartError, OSError) as error:
            kept.retry = min(2 * kept.retry, _LONGEST_RETRY)
            kept.due.put_off(self._wall(), kept.retry)
            self._complain(domain, error)
            return
        kept.said, kept.retry = "", _SOONEST
        wait = min(max(bundle.refresh_hint or _USUAL, _SOONEST), _LONGEST)
        kept.due.put_off(self._wall(), wait)

    async def _asked(self, domain: str, endpoint: Endpoint) -> bytes:
        if not endpoint.spiffe_id:
            return await fetch(endpoint.url, MAX_BUNDLE, _PATIENCE, self._web)
        known = Bundles.of([self._roots(domain, endpoint)])
        wanted = SpiffeId.parse(endpoint.spiffe_id)

        def judge(connection: ssl.SSLObject) -> None:
            found = judge_chain(verified_chain(connection), known, self._wall()).id
            if found != wanted:
                raise IdentityError("other_identity", f"`{found}` answers, not `{wanted}`")

        context = client_context(None, known)
        asked = Asked(endpoint.url)
        status, data = await ask(asked, context, judge, most=MAX_BUNDLE, seconds=_PATIENCE)
        if status != 200:
            raise CaAway(f"it answers {status}")
        return data

    def _roots(self, domain: str, endpoint: Endpoint) -> TrustBundle:
        """Return what proves who serves the bundle: the last one, or the one it began with."""
        bundle = self._read(domain)
        if bundle is not None and bundle.roots:
            return bundle
        assert endpoint.bootstrap is not None
        return read_bundle(endpoint.bootstrap, domain)

    def _read(self, domain: str) -> TrustBundle | None:
        """Return the bundle that is kept: the last good one, if its file is good no more."""
        kept = self._kept[domain]
        try:
            kept.bundle, kept.whole = read_bundle(self.path(domain), domain), True
        except FileNotFoundError:
            kept.bundle = None
        except (IdentityError, StartError, OSError) as error:
            kept.whole = False
            self._complain(domain, error)
        return kept.bundle

    def _complain(self, domain: str, error: Exception) -> None:
        kept = self._kept[domain]
        if str(error) != kept.said:
            kept.said = str(error)
            self._say(f"the trust bundle of `{domain}` cannot be had: {error}")

    def _take(self, domain: str, data: bytes, bundle: TrustBundle) -> None:
        path, before = self.path(domain), self._read(domain)
        if before is not None and (bundle.sequence or 0) < (before.sequence or 0):
            raise CaAway("it serves an older bundle than before")
        if before is None or before != bundle or not self._kept[domain].whole:
            self._folder.mkdir(mode=0o755, exist_ok=True)
            with locked(self._folder):
                install(self._folder, {path.name: (data, PUBLIC)}, replace=True)
        now = self._wall()
        self._mark(domain).touch()
        os.utime(self._mark(domain), (now, now))
        self._kept[domain].seen = now


def read_bundle(path: Path, domain: str) -> TrustBundle:
    """Read the roots of *domain* from a file, PEM or a SPIFFE bundle document."""
    data = read_public(path)
    if data.lstrip()[:1] == b"{":
        return TrustBundle.from_spiffe(data, domain)
    return TrustBundle.from_pem(data, domain)


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
