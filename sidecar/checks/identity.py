"""Checks of the identity on disk: is it whole, is it ours alone, how long will it last.

Of one that a CA elsewhere gives: whether the CA has taken it back, and whether the token
for the first one is there and may be used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..ca.files import read_public
from ..ca.identity import load_identity
from ..errors import IdentityError, StartError
from ..remote.ca_enrolment import DENIED, RemoteCa, read_token
from ..rotation import IdentitySpec
from ..spiffe.revocation import Revocations
from ..spiffe.svid import X509Svid
from .outcome import Outcome, bad, good, skipped

# With less of its life left, whoever renews should long have done so (half is the rule).
_LATE: Final = 0.25
_DENIED: Final = 77  # a file that others may read or change


def identity(spec: IdentitySpec | None, now: float, *, starting: bool = False) -> Iterator[Outcome]:
    """Yield what is to be said of the identity in *spec*, at *now* (seconds since the epoch).

    With *starting*, one that a CA elsewhere will give need not be there yet.
    """
    if spec is None:
        yield skipped("identity", "none: this sidecar proves nothing to its callers")
        return
    has_none = not (spec.folder / "svid.pem").exists()
    if spec.remote is not None:
        yield _token(spec.remote, spec.folder, has_none=has_none)
        if starting and has_none:
            yield skipped("identity", "none yet: the CA gives one for the token")
            return
    try:
        svid = load_identity(spec.folder, now).svid
    except (StartError, IdentityError) as error:
        yield bad("identity", f"{spec.folder}: {error}", _remedy(error, spec))
        return
    yield good("identity", str(svid.id))
    yield _expiry(svid, now)
    if spec.remote is not None:
        yield _standing(svid, spec)


def _remedy(error: StartError | IdentityError, spec: IdentitySpec) -> str:
    if isinstance(error, IdentityError) and error.reason == "not_yet_valid":
        return "set the clock: `timedatectl set-ntp true`"
    if isinstance(error, StartError) and error.code == _DENIED:
        return error.help  # whose file it is, is no matter of who made it
    if spec.remote is not None:
        return "see in the sidecar's log why its CA gives it no other, or put a new token there"
    if isinstance(error, StartError) and error.help:
        return error.help
    return "issue a new one with `sidecar issue-cert NAMESPACE/ACCOUNT`"


def _token(remote: RemoteCa, folder: Path, *, has_none: bool) -> Outcome:
    """Say whether a join token could be used; where there is an identity, none need be there."""
    named = remote.token_file
    if not has_none and (named is None or not named.exists()):
        return skipped("token", "none, and none is needed: there is an identity")
    if named is None and not has_none:
        return skipped("token", "none is named")
    try:
        read_token(remote, folder)
    except (StartError, OSError) as error:
        remedy = getattr(error, "help", "") or "make one at the CA with `sidecar ca token NS/SA`"
        return bad("token", str(error), remedy)
    return good("token", f"{named} is the owner's alone")


def _standing(svid: X509Svid, spec: IdentitySpec) -> Outcome:
    """Say whether the CA, as it was last heard, still stands by the identity."""
    try:
        denied = Revocations.parse(read_public(spec.folder / DENIED))
    except FileNotFoundError:
        return skipped("revoked", "the CA has not told yet whom to believe")
    except (StartError, IdentityError) as error:
        return bad("revoked", f"{spec.folder / DENIED}: {error}", f"rm {spec.folder / DENIED}")
    why = denied.why(svid.id, svid.serial, svid.signers)
    if not why:
        return good("revoked", "not revoked, as the CA last said")
    return bad(
        "revoked",
        why,
        f"at the CA: `sidecar ca revoke --undo {spec.name}`, then put a new token in place",
    )


def _expiry(svid: X509Svid, now: float) -> Outcome:
    left, life = svid.not_after - now, svid.not_after - svid.not_before
    said = f"{span(left)} left of {span(life)}"
    if left < life * _LATE:
        return bad(
            "expiry",
            f"{said}, and nobody has renewed it",
            "see why in the log of the sidecar, or run `sidecar issue-cert` again",
        )
    return good("expiry", said)


def span(seconds: float) -> str:
    """Return a length of time as a person says it."""
    for size, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"
