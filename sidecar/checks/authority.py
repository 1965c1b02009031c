"""Checks of the CA that renews an identity: is it there, how old is its word, does its clock agree.

It is asked for its bundle, as anybody may. While it is away a sidecar goes on with
what it has; but whoever looks should know before that ends.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ..ca.identity import BUNDLE
from ..remote.ca_enrolment import DENIED, RemoteCa
from ..rotation import IdentitySpec
from .clock import skew
from .identity import span
from .outcome import Outcome, bad, good, skipped

_PATIENCE: Final = 5.0  # seconds
_PORT: Final = 443
_ASKED: Final = "/v1/bundle"


def authority(
    spec: IdentitySpec | None, now: float, *, starting: bool = False
) -> Iterator[Outcome]:
    """Yield what is to be said of the CA in *spec*, at *now* (seconds since the epoch).

    With *starting*, it need not have told yet whom to believe.
    """
    if spec is not None and spec.remote is not None:
        yield from _elsewhere(spec.remote, spec.folder, now)
        if starting and not (spec.folder / DENIED).exists():
            yield skipped("bundle age", "the CA tells at the start whom to believe")
            return
        yield _age(spec.folder / DENIED, spec.remote.max_age, now)
    elif spec is not None and spec.ca is not None:
        yield _here(spec.ca)
    else:
        yield skipped("CA", "no CA renews this identity: its files are loaded when they change")


def _here(ca: Path) -> Outcome:
    for name in ("intermediate.pem", "intermediate_key.pem"):
        try:
            (ca / name).stat()
        except OSError as error:
            remedy = "make one with `sidecar ca init`, or name the right folder"
            return bad("CA", f"{error}", remedy)
    return good("CA", f"{ca} signs for this sidecar")


def _elsewhere(remote: RemoteCa, folder: Path, now: float) -> Iterator[Outcome]:
    theirs: float | None = None
    try:
        theirs = _time_at(remote.url, folder / BUNDLE)
        yield good("CA", f"{remote.url} answers")
    except ssl.SSLCertVerificationError as error:
        said = f"{remote.url}: another than the CA that is known: {error.verify_message}"
        remedy = "correct `identity.ca`, or the clock; a token of that CA brings this sidecar over"
        yield bad("CA", said, remedy)
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error)
        remedy = "start it with `sidecar ca serve`, or open the way to it"
        yield bad("CA", f"{remote.url}: {why}", remedy)
    yield skew(now, theirs)


def _time_at(url: str, bundle: Path) -> float | None:
    """Return what time the CA says it is, None if it does not. Raises OSError, HTTPException."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is known by its root, not by a name
    if bundle.exists():
        context.load_verify_locations(bundle)
    else:
        context.verify_mode = ssl.CERT_NONE  # nothing is told to it, and nothing of it is kept
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or _PORT, timeout=_PATIENCE, context=context
    )
    try:
        connection.request("GET", _ASKED)
        answer = connection.getresponse()
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        raise OSError(f"it answers {answer.status}, as no CA does")
    told = answer.getheader("date", "")
    with suppress(ValueError):
        return parsedate_to_datetime(told).timestamp()
    return None


def _age(denied: Path, most: float, now: float) -> Outcome:
    """Say how long ago the CA told whom to believe."""
    try:
        age = now - denied.stat().st_mtime
    except OSError:
        return bad(
            "bundle age",
            "the CA has not told yet whom to believe",
            "see in the sidecar's log why it could not be asked",
        )
    said = f"the CA told {span(age)} ago whom to believe"
    if age > most:
        return bad("bundle age", said, f"over {span(most)} (`maxAge`) is not ready: reach it")
    return good("bundle age", said)
