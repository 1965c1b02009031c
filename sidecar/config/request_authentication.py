"""RequestAuthentication: Istio's fields and rules of validity, and what cannot be kept safe.

Refused beyond Istio: keys that are written and fetched at once, keys that would come in
plaintext over a network, and headers for the server that are not a token's to set.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ..policy.tokens.keys import LONGEST_JWKS, Keys
from ..policy.tokens.spec import ClaimHeader, HeaderPlace, JwtRuleSpec
from .conditions import text
from .documents import DRY_RUN, RequestAuthentication, RequestAuthenticationSpec
from .metadata import SELECTOR_FIELD, TARGETS
from .nodes import MapNode, Node
from .problem import Notes
from .schema import Field, ListOf, Struct
from .values import Duration, Flag, Malformed, Read, Text

MOST_JWT_RULES: Final = 64
MOST_PLACES: Final = 16
_MOST_NAMES: Final = 256

_UNKNOWN: Final = "an unknown field would be ignored, and tokens be read otherwise than it says"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_OUTPUT: Final = re.compile(r"[-_0-9A-Za-z]+")  # Istio's own, for headers that are set
# What frames a message, or what we ourselves tell the server; and all that MCP mirrors.
_FRAMING: Final = frozenset(
    {
        *("host", "connection", "content-length", "content-type", "content-encoding"),
        *("transfer-encoding", "expect", "keep-alive", "te", "trailer", "upgrade"),
        *("proxy-connection", "http2-settings", "origin", "access-control-request-method"),
        *("accept-encoding", "x-request-id", "x-forwarded-client-cert", "x-forwarded-for"),
    }
)
_MIRRORS: Final = "mcp-"


def _frames(name: str) -> bool:
    folded = name.lower().replace("_", "-")
    return folded in _FRAMING or folded.startswith(_MIRRORS)


def _header(value: str) -> str:
    if _TOKEN.fullmatch(text(value)) is None:
        raise Malformed(f"`{value}` is not a header's name", "write letters, digits and `-`")
    if _frames(value):
        raise Malformed(
            f"`{value}` carries no token",
            "write `Authorization`, or a header of your own",
            why="it frames the message or mirrors it, and would be removed with the token",
        )
    return value


def _output(value: str) -> str:
    if _OUTPUT.fullmatch(text(value)) is None:
        raise Malformed(
            f"`{value}` is not a header that can be set",
            "write letters, digits, `-` and `_`",
            "SC0421",
        )
    if _frames(value) or value.lower() == "cookie":
        raise Malformed(
            f"`{value}` is not a token's to set",
            "write a header of your own, such as `x-jwt-payload`",
            "SC0421",
            why="it frames the message, or tells the server something else",
        )
    return value


def _jwks(value: str) -> Keys:
    from ..policy.tokens.jwks import parse_jwks

    try:
        return parse_jwks(value.encode())
    except ValueError as error:
        raise Malformed(
            f"this is no key set: {error}",
            'write a JWKS as one text: \'{"keys": [{"kty": "RSA", ...}]}\'',
            "SC0420",
        ) from None


def jwks_uri(value: str) -> str:
    """Return where keys are fetched from: https, or http on this machine."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = SplitResult("", "", "", "", "")
    good = parts.scheme in ("https", "http") and host and port != 0 and value.isprintable()
    if not good or not value.isascii() or " " in value or parts.username is not None:
        raise Malformed(
            f"`{value}` is not an URL of keys",
            "write `https://HOST/PATH`, without a user's name",
            "SC0420",
        )
    if parts.scheme == "http" and not _is_loopback(host or ""):
        raise Malformed(
            f"`{value}` is not https",
            "write `https://`",
            "SC0420",
            why="whoever is on the way could put keys of their own there, and sign any token",
        )
    return value


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _named(title: str, value: Callable[[str], str], doc: str, name: str, most: int) -> Field:
    return Field(name, ListOf(Read(title, value), most=most), doc)


_FROM_HEADER: Final = Struct(
    "JWTHeader",
    HeaderPlace,
    (
        Field("name", Read("text", _header), "The header's name.", required=True),
        Field("prefix", Text(empty=True), "What stands before the token, such as `Bearer `."),
    ),
    why_unknown=_UNKNOWN,
)

_CLAIM_TO_HEADER: Final = Struct(
    "ClaimToHeader",
    ClaimHeader,
    (
        Field("header", Read("text", _output), "The header that is set.", required=True),
        Field(
            "claim",
            Read("text", text),
            "The claim: text, a number or a boolean; dots lead into objects.",
            required=True,
        ),
    ),
    why_unknown=_UNKNOWN,
)


def _check_rule(rule: JwtRuleSpec, node: MapNode, path: str, notes: Notes) -> None:
    if not rule.issuer and not rule.jwks_uri:
        notes.error(
            "SC0419",
            f"{path} names neither an `issuer` nor a `jwksUri`",
            node,
            help="add `issuer:`, as the tokens' claim `iss` has it, and `jwksUri:` or `jwks:`",
        )
    elif rule.jwks is not None and rule.jwks_uri:
        notes.error(
            "SC0420",
            f"{path} has both `jwks` and `jwksUri`",
            node.key("jwks"),
            why="the keys of one would hold although they are not in the other",
            help="leave one of them",
        )
    elif rule.jwks is None and not rule.jwks_uri:
        _check_discovery(rule, node, path, notes)
    if rule.jwks is not None and rule.jwks.private:
        notes.warning(
            "SC0420",
            f"{path}.jwks holds a private key",
            node.key("jwks"),
            why="who has it can sign any token; here only its public half is used",
            help="write the public key alone, and replace this one: it has been seen",
        )


def _check_discovery(rule: JwtRuleSpec, node: MapNode, path: str, notes: Notes) -> None:
    """Note where keys cannot be discovered: such a rule refuses every token, safely."""
    try:
        jwks_uri(rule.issuer)
    except Malformed:
        notes.warning(
            "SC0420",
            f"{path} has no keys",
            node.key("issuer"),
            why="every token is refused: there is no `jwks`, no `jwksUri`, and the issuer is no "
            "https URL that could be asked where its keys are",
            help="add `jwksUri:` or `jwks:`",
        )


JWT_RULE: Final = Struct(
    "JWTRule",
    JwtRuleSpec,
    (
        Field(
            "issuer",
            Text(empty=True),
            "Who issues the tokens: their claim `iss`, compared whole. With neither `jwks` nor "
            "`jwksUri` it is asked where its keys are (`/.well-known/openid-configuration`).",
        ),
        _named(
            "text",
            text,
            "For whom tokens must be (`aud`), one of these; `https://` and a last slash do not "
            "count.",
            "audiences",
            _MOST_NAMES,
        ),
        Field("jwks", Read("JWKS", _jwks, longest=LONGEST_JWKS), "The public keys, as text."),
        Field(
            "jwksUri",
            Read("URL", jwks_uri),
            "Where the keys are fetched from: https, or http on a loopback address.",
        ),
        Field(
            "fromHeaders",
            ListOf(_FROM_HEADER, most=MOST_PLACES),
            "Headers that carry tokens.",
            default="`Authorization: Bearer`, if no other place is named",
        ),
        Field(
            "fromParams",
            ListOf(Read("text", text), most=MOST_PLACES),
            "Parameters of the query that carry tokens.",
            default="`access_token`, if no other place is named",
        ),
        _named("text", text, "Cookies that carry tokens.", "fromCookies", MOST_PLACES),
        Field(
            "outputPayloadToHeader",
            Read("text", _output),
            "The header that tells the server the claims, in base64url; never taken from outside.",
        ),
        Field(
            "outputClaimToHeaders",
            ListOf(_CLAIM_TO_HEADER, most=_MOST_NAMES),
            "Headers that tell the server single claims; never taken from outside.",
        ),
        Field(
            "forwardOriginalToken",
            Flag(),
            "Whether the server gets the token, too; else it is removed.",
            default="false",
        ),
        Field("timeout", Duration(), "How long fetching the keys may take.", default="5s"),
        _named(
            "text",
            text,
            "Claims that hold several words in one text, beside `scope` and `permission`.",
            "spaceDelimitedClaims",
            _MOST_NAMES,
        ),
    ),
    check=_check_rule,
    why_unknown=_UNKNOWN,
    located=True,
)

SPEC: Final = Struct(
    "RequestAuthenticationSpec",
    RequestAuthenticationSpec,
    (
        SELECTOR_FIELD,
        *TARGETS,
        Field(
            "jwtRules",
            ListOf(JWT_RULE, most=MOST_JWT_RULES),
            "Which tokens are accepted; all documents of a workload count together.",
        ),
    ),
    why_unknown="an unknown field would be ignored, and the document would then reach further",
)


def check_metadata(document: RequestAuthentication, node: MapNode, path: str, notes: Notes) -> None:
    """Check what concerns the metadata: there is no dry run of tokens."""
    if DRY_RUN not in document.metadata.annotations:
        return
    metadata = node.get("metadata")
    found: Node | None = metadata.get("annotations") if isinstance(metadata, MapNode) else None
    notes.error(
        "SC0412",
        f"`{DRY_RUN}` is for AuthorizationPolicies",
        found.key(DRY_RUN) if isinstance(found, MapNode) else node,
        help="remove it: a token is verified or it is not",
    )
