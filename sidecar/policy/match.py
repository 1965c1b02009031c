"""Compiled matchers: what a rule's values mean, each linear in what it is asked about.

A matcher is made once from values as they were written and then asked often. It
raises `ValueError` when a value means nothing; what becomes of the rule is
`rule.py`'s to say. A missing attribute is the empty string, an empty tuple or None
as noted, and no matcher ever holds for it. Nothing here knows calls or policies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Matches: TypeAlias = Callable[[str], bool]

CLUSTER_LOCAL: Final = "cluster.local"


@dataclass(frozen=True, slots=True)
class Strings:
    """Exact, prefix, suffix and presence patterns, any of which may hold.

    A leading `*` is looked at before a trailing one: `*admin*` is the suffix
    `admin*`. `*` alone is presence: anything but the empty string.
    """

    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    present: bool = False

    @classmethod
    def of(cls, values: Iterable[str]) -> Strings:
        """Compile *values*; ValueError if one is empty, which would match what is missing."""
        exact, prefixes, suffixes, present = set(), [], [], False
        for value in values:
            if not value:
                raise ValueError("an empty value matches nothing")
            if value == "*":
                present = True
            elif value.startswith("*"):
                suffixes.append(value[1:])
            elif value.endswith("*"):
                prefixes.append(value[:-1])
            else:
                exact.add(value)
        return cls(frozenset(exact), tuple(prefixes), tuple(suffixes), present)

    def match(self, text: str) -> bool:
        """Whether one of the patterns holds for *text*."""
        return (
            text in self.exact
            or text.startswith(self.prefixes)
            or text.endswith(self.suffixes)
            or (self.present and text != "")
        )

    @property
    def matches(self) -> Matches:
        """The cheapest callable that says what `match` says."""
        if not (self.prefixes or self.suffixes or self.present):
            return self.exact.__contains__
        return self.match


def strings(values: Iterable[str]) -> Matches:
    """Compile plain string values."""
    return Strings.of(values).matches


def lowered(values: Iterable[str]) -> tuple[str, ...]:
    """Return *values* in lower case: host names are matched without regard to case."""
    return tuple(value.lower() for value in values)


def ports(values: Iterable[str]) -> Callable[[int], bool]:
    """Compile port numbers."""
    return frozenset(_port(value) for value in values).__contains__


def _port(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= 65535):
        raise ValueError(f"`{value}` is not a port")
    return int(value)


def address(text: str) -> Address | None:
    """Read an IP address, an IPv4 one in IPv6 clothes as what it is; None if it is none."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def ip_blocks(values: Iterable[str]) -> Callable[[Sequence[Address]], bool]:
    """Compile addresses and CIDR blocks, host bits allowed; asked with all that is known."""
    blocks = tuple(network(value) for value in values)
    return lambda known: any(one in block for one in known for block in blocks)


def network(value: str) -> Network:
    """Read an address or a CIDR block; ValueError if it is neither.

    A mask in the prefix's place may be read as its opposite, and a zone is one machine's
    own: Istio's reader takes neither in a block.
    """
    found = ip_network(value, strict=False)
    start, slash, prefix = value.partition("/")
    if slash and (prefix != str(int(prefix)) or "%" in start):
        raise ValueError(f"`{value}` is not a CIDR block")
    if isinstance(found, IPv6Network) and found.prefixlen >= 96:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, found.prefixlen - 96))
    return found


def namespaces(values: Iterable[str]) -> Matches:
    """Compile namespaces: asked with a SPIFFE ID, each is `*/ns/<value>/*`.

    A `*` stands for any run of characters, slashes too, wherever it is.
    """
    globs = tuple(_namespace(value) for value in values)
    return lambda uri: any(_in_order(pieces, uri) for pieces in globs)


def _namespace(value: str) -> tuple[str, ...]:
    if not value:
        raise ValueError("an empty namespace matches nothing")
    return tuple(f"/ns/{value}/".split("*"))


def _in_order(pieces: Sequence[str], text: str) -> bool:
    """Whether *pieces* stand in *text* one after the other: the first place is the best."""
    at = 0
    for piece in pieces:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


def service_accounts(values: Iterable[str], namespace: str) -> Matches:
    """Compile `NS/SA`, or `SA` of *namespace*: asked with a SPIFFE ID of any trust domain.

    Other key and value pairs may stand before, between and after `ns` and `sa`.
    """
    accounts = tuple(_account(value, namespace) for value in values)
    return lambda uri: any(_is_account(uri, ns, sa) for ns, sa in accounts)


def _account(value: str, namespace: str) -> tuple[str, str]:
    first, slash, second = value.partition("/")
    ns, sa = (first, second) if slash else (namespace, first)
    if not ns or not sa or "/" in sa:
        raise ValueError(f"`{value}` is not a service account: write `NAMESPACE/ACCOUNT`")
    return f"/ns/{ns}/", f"/sa/{sa}/"


def _is_account(uri: str, ns: str, sa: str) -> bool:
    if not uri.startswith("spiffe://"):
        return False
    # At least one character of a trust domain comes first. The namespace's last
    # slash may be the account's first one.
    at = uri.find(ns, len("spiffe://") + 1)
    return at >= 0 and (uri + "/").find(sa, at + len(ns) - 1) >= 0


def trust_domains(values: Iterable[str], known: Sequence[str]) -> Matches:
    """Compile trust domains; one of *known* (the mesh's and its aliases) stands for all."""
    wanted: list[str] = []
    for value in values:
        wanted += known if value in known else (value,)
    return strings(wanted)


def principals(values: Iterable[str], known: Sequence[str]) -> Matches:
    """Compile principals as Istio writes them, without `spiffe://`; *known* as above."""
    return strings(with_aliases(values, known))


def with_aliases(values: Iterable[str], known: Sequence[str]) -> list[str]:
    """Return *values* with each that names a trust domain of ours said for all of *known*.

    Only principals of the form `TD/ns/NS/sa/SA` name one; `cluster.local` always
    means ours.
    """
    wanted: list[str] = []
    for value in values:
        domain, _, rest = value.partition("/")
        ours = domain == CLUSTER_LOCAL or any(_same_domain(domain, one) for one in known)
        if value.count("/") != 4 or not ours:
            wanted.append(value)
            continue
        said = (value if _ends_as(one, domain) else f"{one}/{rest}" for one in known)
        wanted += dict.fromkeys(said)
    return wanted


def _same_domain(left: str, right: str) -> bool:
    """Whether two trust domains, either with a `*` at one end, can mean the same."""
    return any(
        one == other or _ends_as(one, other) or (other.endswith("*") and one.startswith(other[:-1]))
        for one, other in ((left, right), (right, left))
    )


def _ends_as(text: str, pattern: str) -> bool:
    return pattern.startswith("*") and text.endswith(pattern[1:])


def request_principals(values: Iterable[str]) -> Callable[[Mapping[str, object]], bool]:
    """Compile `ISSUER/SUBJECT`: asked with verified claims, both are matched apart.

    The last slash divides, because an issuer may be a URL. A value without a slash
    and without `*` matches nothing.
    """
    pairs = tuple(_request_principal(value) for value in values)

    def matches(claims: Mapping[str, object]) -> bool:
        issuer, subject = claims.get("iss"), claims.get("sub")
        if type(issuer) is not str or type(subject) is not str:
            return False
        return any(iss(issuer) and sub(subject) for iss, sub in pairs)

    return matches


def _request_principal(value: str) -> tuple[Matches, Matches]:
    if not value:
        raise ValueError("an empty request principal matches nothing")
    issuer, slash, subject = value.rpartition("/")
    if value == "*":
        return bool, bool
    if value.startswith("*"):
        if not slash:
            return bool, _suffix(value[1:])
        return (bool if issuer == "*" else _suffix(issuer[1:])), _exact(subject)
    if value.endswith("*"):
        if not slash:
            return _prefix(value[:-1]), bool
        return _exact(issuer), (bool if subject == "*" else _prefix(subject[:-1]))
    return _exact(issuer), _exact(subject)


def _exact(wanted: str) -> Matches:
    return lambda text: text == wanted != ""


def _prefix(wanted: str) -> Matches:
    return lambda text: text.startswith(wanted)


def _suffix(wanted: str) -> Matches:
    return lambda text: text.endswith(wanted)


# RFC 3986 `pchar`, percent sign included. What is outside never matches a template.
_PCHAR: Final = r"[A-Za-z0-9\-._~%!$&'()*+,;:@=]"
# A literal segment of a template: the same without `*`.
_LITERAL: Final = re.compile(r"[A-Za-z0-9\-._~%!$&'()+,;:@=]+")
ONE: Final = "{*}"
ANY: Final = "{**}"


@dataclass(frozen=True, slots=True)
class Paths:
    """Path values: strings as above, and templates, which match whole paths."""

    strings: Strings
    templates: tuple[re.Pattern[str], ...] = ()
    heads: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Iterable[str]) -> Paths:
        """Compile *values*; ValueError names what is wrong with a template."""
        plain: list[str] = []
        templates: list[str] = []
        for value in values:
            (templates if is_template(value) else plain).append(value)
        heads = tuple(template[: template.index("{")] for template in templates)
        return cls(Strings.of(plain), tuple(map(_template, templates)), heads)

    def match(self, path: str) -> bool:
        """Whether one of the values holds for *path*, which is normalised and has no query."""
        return self.strings.match(path) or any(
            template.fullmatch(path) for template in self.templates
        )

    @property
    def matches(self) -> Matches:
        """The cheapest callable that says what `match` says."""
        return self.match if self.templates else self.strings.matches

    @property
    def covered(self) -> Strings:
        """Patterns that hold wherever these do, and perhaps elsewhere: for an index."""
        plain = self.strings
        return Strings(plain.exact, plain.prefixes + self.heads, plain.suffixes, plain.present)


def is_template(value: str) -> bool:
    """Whether a path is a template: it holds `{*}` or `{**}`."""
    return ONE in value or ANY in value


def template_problem(path: str) -> str:
    """Say what is wrong with the braces of a *path*, or nothing."""
    ended = False
    for segment in path.strip("/").split("/"):
        if segment in (ONE, ANY):
            if ended:
                return f"`{ANY}` must be the last operator"
            ended = segment == ANY
        elif "{" in segment or "}" in segment:
            return f"only `{ONE}` and `{ANY}` may stand in braces, as a whole segment"
        elif is_template(path) and not is_literal_segment(segment):
            return f"`{segment}` may not stand in a path template"
    return ""


def is_literal_segment(segment: str) -> bool:
    """Whether *segment* may stand between the slashes of a path template."""
    return _LITERAL.fullmatch(segment) is not None


def _template(path: str) -> re.Pattern[str]:
    """Compile a template. It stays linear: only one piece of it can cross a slash."""
    problem = template_problem(path)
    if problem:
        raise ValueError(f"the path template `{path}`: {problem}")
    pattern = re.escape(path)
    pattern = pattern.replace(re.escape(ANY), f"[/{_PCHAR[1:]}*")
    return re.compile(pattern.replace(re.escape(ONE), f"{_PCHAR}++"))
