"""`sidecar issue-cert NS/SA`: one certificate from the local CA, with no questions.

Without a named CA it uses `./certs/ca` and makes it if there is none; a CA that
is named must exist. The private key is made here and leaves this process only
as the file. With `-o json` stdout carries one object, for programs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import IdentityError, StartError
from ..spiffe.id import DEFAULT_TRUST_DOMAIN, SpiffeId, parse_trust_domain

if TYPE_CHECKING:
    from ..ca.store import Issued, LocalCa

HELP: Final = "issue one certificate from the local CA"
CERTS: Final = Path("certs")
DEFAULT_CA: Final = CERTS / "ca"

_USAGE: Final = 2
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(?:[0-9]{1,9}[smhd])+")


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for, read from the arguments; `ca` is None where none was named."""

    identity: SpiffeId
    folder: Path
    ca: Path | None
    trust_domain: str | None
    names: tuple[str, ...]
    ttl: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done."""

    order: Order
    issued: Issued
    ca: LocalCa
    ca_made: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "identity",
        metavar="NS/SA",
        help="namespace and account, such as agent/alice, or a whole spiffe://domain/path",
    )
    parser.add_argument(
        "--ttl", default="24h", metavar="TIME", help="lifetime: 90s, 15m, 1h, 7d (default: 24h)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the files go (default: ./certs/NS/SA)"
    )
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="DIR",
        help="the CA's folder, which must exist (default: ./certs/ca, made if there is none)",
    )
    parser.add_argument(
        "--dns",
        action="append",
        default=[],
        metavar="NAME|IP",
        help="a host name or address for ordinary clients; may be given several times",
    )
    parser.add_argument(
        "--trust-domain",
        metavar="NAME",
        help=f"the CA's trust domain (default: its own; {DEFAULT_TRUST_DOMAIN} for a new one)",
    )
    parser.add_argument(
        "-o", "--output", choices=["table", "json"], default="table", help="how to say the outcome"
    )


def run(args: argparse.Namespace) -> int:
    """Issue the certificate and say what was done; StartError if it cannot be."""
    now = time.time()  # noqa: TID251  a command is where the time comes in
    try:
        outcome = issue(read_order(args), now)
    except IdentityError as error:
        raise StartError(str(error)) from None
    except PermissionError:
        raise
    except OSError as error:
        raise StartError(
            f"cannot write `{error.filename or 'a file'}`: {error.strerror or error}"
        ) from None
    print(_as_json(outcome) if args.output == "json" else _as_table(outcome, now))
    return 0


def read_order(args: argparse.Namespace) -> Order:
    """Check the arguments; StartError 2 says which is wrong."""
    try:
        wanted = parse_trust_domain(args.trust_domain) if args.trust_domain else None
        identity = SpiffeId.of_short(args.identity, wanted or DEFAULT_TRUST_DOMAIN)
    except IdentityError as error:
        raise StartError(str(error), _USAGE) from None
    if "://" in args.identity:
        if wanted not in (None, identity.trust_domain):
            raise StartError(f"`{identity}` is not of the trust domain `{wanted}`", _USAGE)
        wanted = identity.trust_domain
    if not identity.path:
        raise StartError(f"`{identity}` names a trust domain, not a workload", _USAGE)
    folder = args.out or _folder_of(identity)
    _check_apart(folder, args.ca or DEFAULT_CA)
    ttl = parse_duration(args.ttl)
    return Order(identity, folder, args.ca, wanted, tuple(args.dns), ttl)


def parse_duration(text: str) -> float:
    """Read `90s`, `15m`, `1h30m` or `7d` as seconds; StartError 2 if it is none."""
    if not _DURATION.fullmatch(text):
        raise StartError(f"`{text}` is not a time: write 90s, 15m, 1h, 24h or 7d", _USAGE)
    parts = re.findall(r"([0-9]+)([smhd])", text)
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def issue(order: Order, now: float) -> Outcome:
    """Open or make the CA, sign what is ordered, and write its three files as one set."""
    from ..ca.authority import check_ttl, host_name
    from ..ca.identity import identity_in, write_identity
    from ..ca.store import key_pem, new_key

    # What is wrong with the order is said before a CA is made for it.
    names = [host_name(name) for name in order.names]
    check_ttl(order.ttl)
    ca, made = _ca_of(order, now)
    identity = _identity_at(ca, order)
    key = new_key()
    issued = ca.issue(identity, key.public_key(), names=names, ttl=order.ttl, now=now)
    before = identity_in(order.folder)
    write_identity(order.folder, issued.chain, key_pem(key), issued.bundle)
    if before and before != str(identity):
        _say(f"note: `{order.folder}` held `{before}`, which is replaced")
    if issued.svid.not_after < int(now + order.ttl):
        _say("note: the certificate ends with its CA, sooner than was asked for")
    return Outcome(order, issued, ca, made)


def _ca_of(order: Order, now: float) -> tuple[LocalCa, bool]:
    from ..ca.store import open_ca, open_or_make_ca

    if order.ca is not None:
        return open_ca(order.ca), False
    ca, made = open_or_make_ca(DEFAULT_CA, order.trust_domain or DEFAULT_TRUST_DOMAIN, now)
    if made:
        _announce(ca)
    return ca, made


def _identity_at(ca: LocalCa, order: Order) -> SpiffeId:
    """Return the identity in the CA's trust domain, unless another was asked for."""
    if order.trust_domain not in (None, ca.trust_domain):
        raise StartError(
            f"the CA in `{ca.folder}` is of the trust domain `{ca.trust_domain}`, "
            f"not `{order.trust_domain}`",
            help="a CA keeps its trust domain for life: name another CA with --ca",
        )
    return SpiffeId(ca.trust_domain, order.identity.path)


def _folder_of(identity: SpiffeId) -> Path:
    namespace, account = identity.namespace, identity.service_account
    if namespace and account:
        return CERTS / namespace / account
    return CERTS.joinpath(*identity.path.split("/"))


def _check_apart(folder: Path, ca: Path) -> None:
    """Keep certificates out of the CA's folder, where a namespace `ca` would put them."""
    if folder.resolve().is_relative_to(ca.resolve()):
        raise StartError(
            f"`{folder}` is within the CA's folder `{ca}`", _USAGE, help="name another with --out"
        )


def _announce(ca: LocalCa) -> None:
    _say(f"warning: there was no CA, so one was made in `{ca.folder}`")
    _say(f"  trust domain `{ca.trust_domain}`, root SHA-256 {ca.root_sha256}")
    _say("  its root key has no passphrase: whoever reads that folder can be anybody in this mesh")
    _say("  other machines must use this CA: one made there would be another mesh")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _paths(order: Order) -> dict[str, str]:
    from ..ca.identity import BUNDLE, CERTIFICATE, KEY

    return {
        "svid": str(order.folder / CERTIFICATE),
        "key": str(order.folder / KEY),
        "bundle": str(order.folder / BUNDLE),
    }


def _as_json(outcome: Outcome) -> str:
    from ..ca.log import rfc3339

    svid = outcome.issued.svid
    return json.dumps(
        {
            "spiffe_id": str(svid.id),
            "not_after": rfc3339(svid.not_after),
            "serial": f"{svid.serial:032x}",
            "paths": _paths(outcome.order),
            "ca": str(outcome.ca.folder),
            "ca_made": outcome.ca_made,
        }
    )


def _as_table(outcome: Outcome, now: float) -> str:
    from ..ca.log import rfc3339

    svid, paths = outcome.issued.svid, _paths(outcome.order)
    rows = {
        "identity": str(svid.id),
        "expires": f"{rfc3339(svid.not_after)} (in {_span(svid.not_after - now)})",
        "certificate": paths["svid"],
        "key": paths["key"],
        "bundle": paths["bundle"],
        "CA": f"{outcome.ca.folder} (trust domain {outcome.ca.trust_domain})",
        "renewal": "by nobody: run this command again before it expires; a running "
        "sidecar\nloads the new files, and renews by itself only what it issued from its own CA",
    }
    width = max(map(len, rows)) + 2
    return "\n".join(
        f"{name:<{width}}{text}".replace("\n", "\n" + " " * width) for name, text in rows.items()
    )


def _span(seconds: float) -> str:
    """Write a time to come in the largest unit that goes into it at least twice: `24h`."""
    rest = round(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if rest >= 2 * size:
            return f"{round(rest / size)}{unit}"
    return f"{rest}s"
