"""The codes of policies, SC04: what `codes` tells of each, its title and its paragraph."""

from __future__ import annotations

from typing import Final

POLICIES: Final = {
    "SC0401": ("empty value", "An empty value would match what is missing. Write or remove it."),
    "SC0402": (
        "source or operation that asks nothing",
        "`source: {}` and `operation: {}` would match everything, which nobody writes that way. "
        "To match every caller leave `from` out; to match every call leave `to` out.",
    ),
    "SC0403": (
        "DENY without rules",
        "A DENY policy without rules denies nothing. To deny everything write `rules: [{}]`.",
    ),
    "SC0404": (
        "unknown attribute",
        "The `key` of a condition is not an attribute that is known, or names nothing between its "
        "brackets. Istio's older attributes have been replaced by `selector` and `metadata`.",
    ),
    "SC0405": ("condition without values", "A condition needs `values`, `notValues`, or both."),
    "SC0406": (
        "not an IP block",
        "IP blocks are addresses or CIDR blocks: `10.1.2.3`, `10.1.0.0/16`, `2001:db8::/32`.",
    ),
    "SC0407": ("not a port", "A port is a whole number up to 65535; in policies in quotes."),
    "SC0408": (
        "not a service account",
        "A service account is `NAMESPACE/ACCOUNT`, or `ACCOUNT` for the policy's own namespace, "
        "with no `*` and at most 320 characters. Use `principals` or `namespaces` for patterns.",
    ),
    "SC0409": (
        "not a trust domain",
        "A trust domain is a name such as `cluster.local`, with a `*` at one end at most, and "
        "neither a scheme nor a path.",
    ),
    "SC0410": (
        "fields that exclude each other",
        "`serviceAccounts` cannot stand beside `principals` or `namespaces` in one source, as in "
        "Istio. Sources of one rule are alternatives: write two.",
    ),
    "SC0411": (
        "selector",
        "Labels of a selector are compared whole, so a `*` in them would select nothing. A "
        "selector without labels selects every workload of the namespace.",
    ),
    "SC0412": (
        "dry run",
        "The annotation `istio.io/dry-run` is true or false, in quotes, and stands on ALLOW and "
        "DENY policies only.",
    ),
    "SC0413": (
        "path template",
        "In paths `{*}` stands for one segment and `{**}` for any number of them, each as a whole "
        "segment, `{**}` last. Names in braces, and `*` beside them, are not supported.",
    ),
    "SC0414": (
        "principal with `spiffe://`",
        "Policies write principals without `spiffe://`: `cluster.local/ns/NS/sa/SA`. With it the "
        "value would never match, and a DENY would deny nothing.",
    ),
    "SC0415": (
        "`*` that is no wildcard",
        "A `*` stands for anything at the beginning of a value or, if it does not begin with one, "
        "at its end. Anywhere else it is the character itself. `namespaces` are the exception: "
        "there it stands for anything wherever it is.",
    ),
    "SC0416": (
        "value that never matches",
        "HTTP methods are compared as they are sent, in upper case, and paths begin with a slash. "
        "This value can match no request.",
    ),
    "SC0417": (
        "path compared as text",
        "`mcp.arguments` compares plain text, and `/srv/../etc/passwd` begins with `/srv/`. "
        "`mcp.argumentPaths` refuses NUL, `..` and backslash before it compares. Use it for "
        "arguments that are paths of files.",
    ),
    "SC0418": (
        "prefix of more than one folder",
        "`/srv*` is the beginning of `/srv-private/x` as well. Write `/srv/*` for what is in the "
        "folder.",
    ),
    "SC0419": (
        "tokens of nobody",
        "A rule of a RequestAuthentication names whose tokens it takes (`issuer`), whose keys "
        "they are signed with (`jwksUri`), or both.",
    ),
    "SC0420": (
        "keys of tokens",
        "Tokens are verified with public keys: written in `jwks` as one JWKS, or fetched from "
        "`jwksUri`, not both. RSA of at least 2048 bits, EC on P-256, P-384 and P-521, and "
        "Ed25519 are used; a shared secret never is. Keys are fetched over https, as whoever can "
        "change them on the way can sign any token; http is for loopback addresses. Without "
        "either, an issuer that is an https URL is asked where its keys are. Where there are no "
        "keys, every token is refused.",
    ),
    "SC0421": (
        "header that is no token's to set",
        "`outputPayloadToHeader` and `outputClaimToHeaders` name headers that the server is told "
        "of a token in, and that are then dropped from every call that comes from outside. They "
        "are letters, digits, `-` and `_`, and none that frames a message or has a meaning here.",
    ),
    "SC0422": (
        "what no filter says",
        "`experimental.envoy.filters...` asks for what a filter of Envoy's left behind. There is "
        "none here, so the attribute is missing, in Istio's sense: `values` never hold, "
        "`notValues` always do. Where the rule would let more through for that (`values` of a "
        "DENY, `notValues` alone of an ALLOW), the policy is refused.",
    ),
}
