"""Who is speaking: a SPIFFE ID as a value, read once and compared cheaply.

An ID that exists is valid: `SpiffeId` checks its parts when it is made, and
every failure is an `IdentityError` with one stable reason word. Nothing here is
normalised: what differs in one byte is another identity (SPIFFE-ID section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from string import ascii_letters, ascii_lowercase, digits
from typing import Final, TypeAlias

from ..errors import IdentityError

SCHEME: Final = "spiffe://"
DEFAULT_TRUST_DOMAIN: Final = "cluster.local"
MAX_ID: Final = 2048  # bytes of the whole URI, SPIFFE-ID section 2.3
MAX_TRUST_DOMAIN: Final = 255  # the longest host of RFC 3986

_HOST: Final = frozenset(ascii_lowercase + digits + ".-_")
_SEGMENT: Final = frozenset(ascii_letters + digits + ".-_")


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """`spiffe://<trust_domain><path>`; *path* is empty or begins with a slash."""

    trust_domain: str
    path: str

    def __post_init__(self) -> None:
        _check_trust_domain(self.trust_domain)
        _check_path(self.path)
        if len(SCHEME) + len(self.trust_domain) + len(self.path) > MAX_ID:
            raise IdentityError("too_long", f"a SPIFFE ID is longer than {MAX_ID} bytes")

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Read a whole ID; IdentityError says in one word what is wrong with it."""
        if not text:
            raise IdentityError("empty", "a SPIFFE ID is empty: write `spiffe://domain/path`")
        if not text.startswith(SCHEME):
            raise IdentityError("scheme", f"{_shown(text)} does not begin with `{SCHEME}`")
        trust_domain, slash, rest = text[len(SCHEME) :].partition("/")
        return cls(trust_domain, slash + rest)

    @classmethod
    def of_short(cls, text: str, trust_domain: str = DEFAULT_TRUST_DOMAIN) -> SpiffeId:
        """Read `NS/SA`, which stands for `/ns/NS/sa/SA` in *trust_domain*, or a whole ID."""
        if "://" in text:
            return cls.parse(text)
        parts = text.split("/")
        if len(parts) != 2:
            raise IdentityError(
                "short_form",
                f"{_shown(text)} is not an identity: write `NAMESPACE/ACCOUNT`, "
                "such as `agent/alice`, or a whole `spiffe://domain/path`",
            )
        namespace, account = parts
        return cls(trust_domain, f"/ns/{namespace}/sa/{account}")

    @property
    def namespace(self) -> str | None:
        """`X` of `/ns/X/sa/Y`, or None where the path has another form."""
        names = self._names()
        return names[0] if names else None

    @property
    def service_account(self) -> str | None:
        """`Y` of `/ns/X/sa/Y`, or None where the path has another form."""
        names = self._names()
        return names[1] if names else None

    def _names(self) -> tuple[str, str] | None:
        parts = self.path.split("/")
        if len(parts) == 5 and parts[1] == "ns" and parts[3] == "sa":
            return parts[2], parts[4]
        return None

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}{self.path}"


# Does this identity belong? Built by the factories below.
Matcher: TypeAlias = Callable[[SpiffeId], bool]


def match_any() -> Matcher:
    """Return a matcher of every identity."""
    return lambda _: True


def match_id(wanted: SpiffeId) -> Matcher:
    """Return a matcher of exactly *wanted*."""
    return lambda identity: identity == wanted


def match_one_of(wanted: Iterable[SpiffeId]) -> Matcher:
    """Return a matcher of the identities in *wanted*; of nothing if there are none."""
    return frozenset(wanted).__contains__


def match_member_of(trust_domain: str) -> Matcher:
    """Return a matcher of every identity of *trust_domain*."""
    return lambda identity: identity.trust_domain == trust_domain


def parse_trust_domain(text: str) -> str:
    """Read a trust domain's name; of a whole SPIFFE ID, take the trust domain."""
    if ":/" in text:
        return SpiffeId.parse(text).trust_domain
    _check_trust_domain(text)
    return text


def check_segment(segment: str) -> None:
    """Raise IdentityError unless *segment* may stand between two slashes of a path."""
    if not segment:
        raise IdentityError("empty_segment", "a SPIFFE ID's path has an empty segment")
    if segment in (".", ".."):
        raise IdentityError("dot_segment", f"a SPIFFE ID's path may not contain `{segment}`")
    if not _SEGMENT.issuperset(segment):
        raise IdentityError(
            _path_fault(segment),
            f"{_shown(segment)} in a SPIFFE ID's path: only letters, digits, "
            "`.`, `-` and `_` may stand there",
        )


def _check_trust_domain(name: str) -> None:
    if not name:
        raise IdentityError("missing_trust_domain", "a SPIFFE ID has no trust domain")
    if not _HOST.issuperset(name):
        raise IdentityError(
            _host_fault(name),
            f"{_shown(name)} is not a trust domain: only lower-case letters, digits, "
            "`.`, `-` and `_` may stand there",
        )
    if len(name) > MAX_TRUST_DOMAIN:
        raise IdentityError(
            "trust_domain_too_long", f"a trust domain is longer than {MAX_TRUST_DOMAIN} bytes"
        )


def _check_path(path: str) -> None:
    if not path:
        return
    first, *segments = path.split("/")
    if first:
        raise IdentityError("leading_slash", f"the path {_shown(path)} does not begin with `/`")
    if not segments[-1] and all(segments[:-1]):
        raise IdentityError("trailing_slash", f"the path {_shown(path)} ends with `/`")
    for segment in segments:
        check_segment(segment)


def _host_fault(name: str) -> str:
    """Name the part of a URI that *name* carries and a trust domain may not have."""
    _, at, host = name.rpartition("@")
    if at and host:
        return "userinfo"
    host, colon, port = name.rpartition(":")
    if colon and host and port.isdecimal() and _HOST.issuperset(host):
        return "port"
    return "trust_domain_charset"


def _path_fault(segment: str) -> str:
    for mark, word in (("#", "fragment"), ("?", "query")):
        before, _, after = segment.partition(mark)
        if before and after:
            return word
    return "path_charset"


def _shown(text: str) -> str:
    """Quote a piece of foreign text, bounded and with nothing unprintable in it."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
