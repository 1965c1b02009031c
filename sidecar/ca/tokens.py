"""One-time join tokens, as files in the CA's folder: hashed at rest, spent before they count.

A token is `v1.<root's SHA-256>.<128 random bits>`: who gets it can tell the CA
that made it from any other. On disk is only the hash of its secret, whom it is
for, and until when. Spending one is a rename that is synced before `spend`
returns, so that no crash lets it work twice.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from ..errors import IdentityError, StartError
from ..spiffe.id import SpiffeId
from .files import PRIVATE, check_folder, install, locked, make_folder, read_private, sync

TOKENS: Final = "tokens"
LIFE: Final = 600.0  # seconds; the longest, too
MOST: Final = 10_000
MAX_TEXT: Final = 200  # bytes of a token as written

_SECRET_BYTES: Final = 16
_KEPT: Final = 86400.0  # seconds that a spent token is remembered as spent
_OPEN: Final = ".open"
_SPENT: Final = ".spent"
_TOKEN: Final = re.compile(r"v1\.([0-9a-f]{64})\.([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Token:
    """A token as its holder has it: *pin* is the SHA-256 of the CA's root."""

    pin: str
    secret: str

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read a token; IdentityError `malformed`, which does not repeat it."""
        match = _TOKEN.fullmatch(text.strip()) if len(text) <= MAX_TEXT else None
        if match is None:
            raise IdentityError(
                "malformed", "this is no join token: `sidecar ca token NS/SA` makes one"
            )
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"v1.{self.pin}.{self.secret}"

    @property
    def hash(self) -> str:
        """What is kept of it."""
        return sha256(self.secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is good for: one identity, host names for its certificate, until a time."""

    identity: SpiffeId
    names: tuple[str, ...]
    expires: float

    @classmethod
    def parse(cls, data: bytes) -> Grant:
        """Read a token's file."""
        found = json.loads(data)
        return cls(SpiffeId.parse(found["id"]), tuple(found["names"]), float(found["expires"]))

    def document(self) -> bytes:
        """Return the token's file."""
        facts = {"id": str(self.identity), "names": self.names, "expires": self.expires}
        return json.dumps(facts).encode() + b"\n"


class TokenStore:
    """The tokens of the CA in *folder*, whose root has the SHA-256 *pin*."""

    def __init__(self, folder: Path, pin: str) -> None:
        self._folder = folder / TOKENS
        self._pin = pin

    def make(
        self, identity: SpiffeId, now: float, *, names: Sequence[str] = (), life: float = LIFE
    ) -> Token:
        """Make a token for *identity* that holds *life* seconds; StartError if there are too many.

        Tokens that have long ended are forgotten on the way.
        """
        if not 1 <= life <= LIFE:
            raise StartError(f"a join token holds from 1 s to {LIFE:.0f} s", 2)
        token = Token(self._pin, secrets.token_hex(_SECRET_BYTES))
        grant = Grant(identity, tuple(names), now + life)
        with suppress(FileExistsError):
            make_folder(self._folder)
        check_folder(self._folder, private=True)
        with locked(self._folder):
            if self._forget(now) >= MOST:
                raise StartError(f"there are {MOST} join tokens: wait until some have ended")
            name = token.hash + _OPEN
            install(self._folder, {name: (grant.document(), PRIVATE)}, replace=False)
        return token

    def check(self, token: Token, identity: SpiffeId, now: float) -> Grant:
        """Return what *token* grants *identity*, and spend nothing.

        IdentityError: `other_ca`, `unknown`, `used`, `expired` or `other_identity`.
        """
        if token.pin != self._pin:
            raise IdentityError("other_ca", "the token was made by another CA")
        try:
            grant = _grant_in(self._path(token, _OPEN))
        except FileNotFoundError:
            if self._path(token, _SPENT).exists():
                raise IdentityError("used", "the token was used before: make another") from None
            raise IdentityError("unknown", "this CA knows no such token") from None
        if now >= grant.expires:
            raise IdentityError("expired", "the token has expired: make another")
        if grant.identity != identity:
            raise IdentityError("other_identity", f"the token is not for `{identity}`")
        return grant

    def spend(self, token: Token, identity: SpiffeId, now: float) -> Grant:
        """Return what *token* grants *identity*, once: spent on the disk when this returns."""
        self.check(token, identity, now)  # what is refused waits for no lock
        with locked(self._folder):
            grant = self.check(token, identity, now)
            self._path(token, _OPEN).rename(self._path(token, _SPENT))
            sync(self._folder)
        return grant

    def _path(self, token: Token, state: str) -> Path:
        return self._folder / (token.hash + state)

    def _forget(self, now: float) -> int:
        """Remove what ended long ago; return how many are left."""
        left = 0
        for path in [*self._folder.glob(f"*{_OPEN}"), *self._folder.glob(f"*{_SPENT}")]:
            if _grant_in(path).expires + _KEPT < now:
                path.unlink()
            else:
                left += 1
        return left


def _grant_in(path: Path) -> Grant:
    try:
        return Grant.parse(read_private(path))
    except (ValueError, KeyError, TypeError, IdentityError) as error:
        raise StartError(
            f"the join token in `{path}` cannot be read: {error}", help="remove the file"
        ) from None
