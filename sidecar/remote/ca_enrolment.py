"""A sidecar's place in the mesh of a CA elsewhere, as files in the folder of its identity.

It joins with a token, renews with what it has, and keeps what the CA says about
whom to believe: its bundle, and its deny list, never an older one for a newer.
What was there stays until something better is whole on the disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ..ca.files import (
    PUBLIC,
    install,
    locked,
    newest,
    read_credential,
    read_private,
    read_public,
)
from ..ca.identity import BUNDLE, CERTIFICATE, KEY, write_identity
from ..ca.tokens import Token
from ..errors import IdentityError, StartError
from ..net.tls import Pair
from ..spiffe.bundle import TrustBundle
from ..spiffe.certificate import Certificate
from ..spiffe.id import SpiffeId
from ..spiffe.pair import read_pair
from ..spiffe.revocation import Revocations
from ..spiffe.svid import check_leaf
from .ca_client import CaClient, CaRefusal, Files, pem_of
from .ca_http import CaAway

DENIED: Final = "revoked.json"
MAX_AGE: Final = 3600.0  # seconds
USUAL_REFRESH: Final = 300.0  # seconds, where no hint is given (SPIFFE Federation section 4.1)
_HELP: Final = "make one at the CA with `sidecar ca token NS/SA`, and put it there"
_NO_TOKEN: Final = "none"  # noqa: S105 - what stands in a unit where no token was lent
_SOONEST: Final = 1.0
_LONGEST: Final = 3600.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteCa:
    """A CA on another machine: where it is, the join token's file, how old its word may get.

    A token that is `lent` is a credential of the service manager's.
    """

    url: str
    token_file: Path | None = None
    max_age: float = MAX_AGE
    lent: bool = False


class Enrolment:
    """Keeps *folder* filled with the identity of *identity*, from the CA that *remote* names."""

    def __init__(
        self, remote: RemoteCa, folder: Path, identity: SpiffeId, wall: Callable[[], float]
    ) -> None:
        self.remote = remote
        self.denied: Revocations | None = None
        self._folder = folder
        self._identity = identity
        self._wall = wall
        self._client = CaClient(remote.url, identity.trust_domain, wall)
        self._tried: Token | None = None  # a token that was spent or refused
        self._seen = 0.0  # when the CA last said whom to believe

    def recall(self) -> None:
        """Take up the deny list that an earlier run has left, and how old it is."""
        path = self._folder / DENIED
        try:
            self._take(Revocations.parse(read_public(path)))
            self._seen = path.stat().st_mtime
        except (OSError, StartError, IdentityError):
            return  # and so not ready, until the CA has been asked

    def _take(self, denied: Revocations) -> None:
        self.denied = self._client.denied = denied

    def stale(self) -> str:
        """Return why what is known of whom to believe is too old, or ""."""
        if self.denied is None:
            return "the CA's deny list has not been fetched yet"
        self._seen = min(self._seen, self._wall())  # a clock that was set back begins anew
        age = self._wall() - self._seen
        if age > self.remote.max_age:
            return f"the CA's bundle and deny list are {age:.0f} s old"
        return ""

    def token_stamp(self) -> object:
        """Return what changes whenever another token is put in place."""
        try:
            found = (self.remote.token_file or Path()).stat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_ino, found.st_size)

    async def renew(self) -> None:
        """Write the next identity, or the first. Raises CaAway, CaRefusal or StartError."""
        held = await _in_thread(self._held)
        if held is None:
            files = await self._joined()
        else:
            try:
                files = await self._client.renew(*held)
            except CaRefusal as refusal:
                files = await self._joined(refusal)
            except CaAway as away:
                files = await self._joined_elsewhere(held[2], away)
        await _in_thread(partial(_write, self._folder, files))

    async def _joined(self, refusal: CaRefusal | None = None) -> Files:
        """Join with a token that was not tried before; if there is none, *refusal* stands."""
        try:
            token = await _in_thread(partial(read_token, self.remote, self._folder))
        except StartError as error:
            raise refusal or error from None
        if token == self._tried:
            raise refusal or StartError(
                f"the join token in `{self.remote.token_file}` is of no use any more",
                help="make another at the CA with `sidecar ca token NS/SA`, and put it there",
            )
        try:
            files = await self._client.join(token, self._identity)
        except CaRefusal:
            self._tried = token  # the CA logs every refusal: once is enough
            raise
        self._tried = token
        return files

    async def _joined_elsewhere(self, known: TrustBundle, away: CaAway) -> Files:
        """Join with a token that another CA made than the one that is known; else *away* stands.

        Whoever put it there, where nobody else may write, wants that CA from now on.
        """
        try:
            token = await _in_thread(partial(read_token, self.remote, self._folder))
        except StartError:
            raise away from None
        if token == self._tried or token.pin in known.fingerprints:
            raise away
        files = await self._joined()
        # Its deny list does not follow that of the CA before.
        await _in_thread(partial((self._folder / DENIED).unlink, missing_ok=True))
        self.denied = self._client.denied = None
        return files

    async def refresh(self) -> float:
        """Ask the CA whom to believe; return in how many seconds to ask again. Raises CaAway."""
        known = await _in_thread(self._bundle)
        bundle = await self._client.bundle(known)
        denied = await self._client.revocations(known)
        if not bundle.roots:
            raise CaAway("its bundle has no roots: that would be the end of this mesh")
        if self.denied is not None and denied.sequence < self.denied.sequence:
            raise CaAway(
                "its deny list is older than the one that is known: was it restored from a "
                "backup? `sidecar ca revoke` makes a newer one"
            )
        await _in_thread(partial(self._keep, known, bundle, denied))
        self._take(denied)
        self._seen = self._wall()
        hints = [one for one in (bundle.refresh_hint, denied.refresh_hint) if one]
        return min(max(min(hints, default=USUAL_REFRESH), _SOONEST), _LONGEST)

    # -- files; called in a thread

    def _held(self) -> tuple[Pair, SpiffeId, TrustBundle] | None:
        """Return what proves us to the CA, even if it has ended; None if it is of no use."""
        try:
            certificate = newest(self._folder, CERTIFICATE, read_public)
            key = newest(self._folder, KEY, read_private)
            chain = read_pair(certificate, key)
            if check_leaf(Certificate.from_der(chain[0])) != self._identity:
                return None
            return Pair(certificate, key), self._identity, self._bundle()
        except (OSError, IdentityError):
            return None

    def _bundle(self) -> TrustBundle:
        pem = newest(self._folder, BUNDLE, read_public)
        return TrustBundle.from_pem(pem, self._identity.trust_domain)

    def _keep(self, known: TrustBundle, bundle: TrustBundle, denied: Revocations) -> None:
        if bundle.roots != known.roots:
            with locked(self._folder):
                install(self._folder, {BUNDLE: (pem_of(bundle), PUBLIC)}, replace=True)
        path = self._folder / DENIED
        if denied != self.denied:
            with locked(self._folder):
                install(self._folder, {DENIED: (denied.document(), PUBLIC)}, replace=True)
        os.utime(path, (self._wall(), self._wall()))


def read_token(remote: RemoteCa, folder: Path) -> Token:
    """Return the join token for the identity in *folder*; StartError if there is none to use."""
    path = remote.token_file
    if path is None:
        raise StartError(
            f"`{folder}` holds no identity, and no join token is named",
            help="name its file with `identity: {tokenFile: ...}`",
        )
    read = read_credential if remote.lent else read_private
    try:
        text = read(path).decode("ascii", "replace")
        if text.strip() == _NO_TOKEN:
            raise FileNotFoundError
        return Token.parse(text)
    except FileNotFoundError:
        raise StartError(f"there is no join token in `{path}`", help=_HELP) from None
    except IdentityError as error:
        raise StartError(f"`{path}`: {error}", help=_HELP) from None


def _write(folder: Path, files: Files) -> None:
    write_identity(folder, files.certificate, files.key, files.bundle)


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)
