"""Checks of the identity on disk: is it whole, is it ours alone, how long will it last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..ca.identity import load_identity
from ..errors import IdentityError, StartError
from ..rotation import IdentitySpec
from ..spiffe.svid import X509Svid
from .outcome import Outcome, bad, good, skipped

# With less of its life left, whoever renews should long have done so (half is the rule).
_LATE: Final = 0.25


def identity(spec: IdentitySpec | None, now: float) -> Iterator[Outcome]:
    """Yield what is to be said of the identity in *spec*, at *now* (seconds since the epoch)."""
    if spec is None:
        yield skipped("identity", "none: this sidecar proves nothing to its callers")
        return
    try:
        svid = load_identity(spec.folder, now).svid
    except (StartError, IdentityError) as error:
        yield bad("identity", f"{spec.folder}: {error}", _remedy(error))
        return
    yield good("identity", str(svid.id))
    yield _expiry(svid, now)


def _remedy(error: StartError | IdentityError) -> str:
    if isinstance(error, StartError) and error.help:
        return error.help
    return "issue a new one with `sidecar issue-cert NAMESPACE/ACCOUNT`"


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
