"""`sidecar ca ...`: a CA for more than one machine.

Its folder is `./certs/ca` unless named, and only `init` makes one. A token goes to
stdout once and nowhere else; a passphrase comes from a file, never from arguments.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import IdentityError, StartError
from ..spiffe.id import DEFAULT_TRUST_DOMAIN, SpiffeId, parse_trust_domain
from .ca_answers import as_json, as_rows, as_table
from .ca_log import add_log_arguments, log
from .issue_cert import DEFAULT_CA, parse_duration

if TYPE_CHECKING:
    from ..ca.store import LocalCa

HELP: Final = "run a CA for several machines: join tokens, renewal, revocation"

_USAGE: Final = 2
_PASSPHRASE: Final = "ca_root_passphrase"  # noqa: S105 - the name of a systemd credential
_SERIAL_DIGITS: Final = 32

_COMMANDS: Final[dict[str, str]] = {
    "init": "make a CA: a root, and an intermediate that issues",
    "serve": "answer sidecars that join, renew, and ask whom to believe",
    "token": "print a one-time join token for one identity, once",
    "list": "show the certificates that hold",
    "revoke": "believe an identity, or a certificate and its renewals, no more",
    "bundle": "print the trust bundle",
    "rotate": "get a new intermediate; the old one is dropped when nothing needs it",
    "log": "check the issue log, or bound it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="what", required=True
    )
    made = {
        name: commands.add_parser(name, help=what, description=what)
        for name, what in _COMMANDS.items()
    }
    for command in made.values():
        command.add_argument(
            "--ca",
            type=Path,
            metavar="DIR",
            default=DEFAULT_CA,
            help="the CA's folder (default: ./certs/ca)",
        )
    _making(made["init"])
    _serving(made["serve"])
    _tokens(made["token"])
    _revoking(made["revoke"])
    _rotating(made["rotate"])
    add_log_arguments(made["log"])
    made["bundle"].add_argument(
        "--format", choices=["pem", "spiffe"], default="pem", help="PEM, or a SPIFFE bundle in JSON"
    )
    for name in ("init", "token", "list", "revoke", "rotate", "log"):
        made[name].add_argument(
            "-o", "--output", choices=["table", "json"], default="table", help="how to answer"
        )


def _making(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-domain",
        metavar="NAME",
        default=DEFAULT_TRUST_DOMAIN,
        help=f"its name ({DEFAULT_TRUST_DOMAIN})",
    )
    parser.add_argument(
        "--root-ttl", metavar="TIME", default="3650d", help="the root's life (3650d)"
    )
    parser.add_argument(
        "--intermediate-ttl", metavar="TIME", default="3650d", help="the intermediate's (3650d)"
    )
    parser.add_argument(
        "--encrypt-root", action="store_true", help="keep the root's key under a passphrase"
    )
    _passphrase(parser)


def _passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="where the root key's passphrase is; `-`: stdin; default: the systemd credential "
        f"`{_PASSPHRASE}`",
    )


def _serving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen", metavar="IP:PORT", default="127.0.0.1:8444", help="where (127.0.0.1:8444)"
    )
    parser.add_argument(
        "--ttl", metavar="TIME", default="1h", help="the life of a workload's certificate (1h)"
    )
    parser.add_argument(
        "--refresh", metavar="TIME", default="30s", help="how soon sidecars look again (30s)"
    )
    parser.add_argument(
        "--grace",
        metavar="TIME",
        default="24h",
        help="how long after its end a certificate may still be renewed, if the CA was away (24h)",
    )


def _tokens(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("identity", metavar="NS/SA", help="whom it is for")
    parser.add_argument(
        "--ttl", metavar="TIME", default="10m", help="how long it holds (10m, which is the most)"
    )
    parser.add_argument(
        "--dns",
        action="append",
        default=[],
        metavar="NAME|IP",
        help="a host name or address for ordinary clients; may be given several times",
    )


def _revoking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="NS/SA|SERIAL", help="who, or which certificate")
    parser.add_argument(
        "--undo", action="store_true", help="let NS/SA join again; its old certificates stay so"
    )


def _rotating(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--intermediate-ttl", metavar="TIME", default="3650d", help="the new one's life (3650d)"
    )
    parser.add_argument(
        "--root-key", type=Path, metavar="FILE", help="the root's key, if it is kept elsewhere"
    )
    parser.add_argument(
        "--drop-now",
        action="store_true",
        help="make no new one; drop old ones at once, with all that they signed",
    )
    _passphrase(parser)


def run(args: argparse.Namespace) -> int:
    """Do it; StartError if it cannot be done."""
    from ..ca.log import LogBroken

    work: Callable[[argparse.Namespace, float], int] = {
        "init": _init,
        "serve": _serve,
        "token": _token,
        "list": _list,
        "revoke": _revoke,
        "bundle": _bundle,
        "rotate": _rotate,
        "log": _log,
    }[args.what]
    try:
        return work(args, time.time())  # noqa: TID251  a command is where the time comes in
    except IdentityError as error:
        raise StartError(str(error)) from None
    except LogBroken as error:
        raise StartError(
            f"the issue log of `{args.ca}` is broken: {error}",
            help="restore it from a backup, and find out who changed it",
        ) from None


def _open(args: argparse.Namespace) -> LocalCa:
    from ..ca.store import open_ca

    return open_ca(args.ca)


def _init(args: argparse.Namespace, now: float) -> int:
    from ..ca.log import rfc3339
    from ..ca.store import make_ca

    secret = _secret(args) if args.encrypt_root else None
    if args.encrypt_root and secret is None:
        raise StartError(
            "no passphrase is given",
            _USAGE,
            help="put it into a file that only you may read, and name it with --passphrase-file",
        )
    ca = make_ca(
        args.ca,
        parse_trust_domain(args.trust_domain),
        now,
        passphrase=secret,
        life=_ca_life(args.root_ttl),
        below_life=_ca_life(args.intermediate_ttl),
    )
    if secret is None:
        _say("warning: the root's key has no passphrase: whoever reads it can be anybody")
        _say(f"  take `{ca.folder}/root_key.pem` off this machine; only `ca rotate` needs it")
    facts = {
        "ca": str(ca.folder),
        "trust_domain": ca.trust_domain,
        "root_sha256": ca.root_sha256,
        "intermediate_ends": rfc3339(ca.issuer.certificate.not_after),
        "root_key": "encrypted" if secret else "not encrypted",
    }
    _answer(args, facts)
    return 0


def _ca_life(text: str) -> float:
    from ..ca.authority import check_ca_ttl

    life = parse_duration(text)
    check_ca_ttl(life)
    return life


def _secret(args: argparse.Namespace) -> bytes | None:
    """Return the passphrase from where it is kept, or None if none was named."""
    import os

    from ..ca.files import read_credential, read_private
    from .place import credential

    path, read = args.passphrase_file, read_private
    if path is None:
        path, read = credential(os.environ, _PASSPHRASE), read_credential
        if path is None or not path.exists():
            return None
    data = sys.stdin.buffer.read(4096) if str(path) == "-" else read(path)
    secret = data.rstrip(b"\r\n")
    if not secret:
        raise StartError(f"`{path}` holds no passphrase", _USAGE)
    return secret


def _serve(args: argparse.Namespace, now: float) -> int:
    from .ca_serve import Terms, serve

    terms = Terms(
        args.ca,
        args.listen,
        ttl=parse_duration(args.ttl),
        grace=parse_duration(args.grace),
        refresh=parse_duration(args.refresh),
    )
    return serve(terms)


def _token(args: argparse.Namespace, now: float) -> int:
    from ..ca.authority import host_name
    from ..ca.revocations import load_revocations
    from ..ca.store import SERVER_PATH
    from ..ca.tokens import TokenStore

    ca = _open(args)
    identity = _identity(args.identity, ca)
    if identity.path in ("", SERVER_PATH):
        raise StartError(f"`{identity}` is no workload's", _USAGE)
    for name in args.dns:
        host_name(name)
    if str(identity) in load_revocations(ca.folder, ca.trust_domain).ids:
        raise StartError(
            f"`{identity}` is revoked",
            help=f"let it join again with `sidecar ca revoke --undo {args.identity}`",
        )
    life = parse_duration(args.ttl)
    token = TokenStore(ca.folder, ca.root_sha256).make(identity, now, names=args.dns, life=life)
    ca.record("token_made", {"spiffe_id": str(identity), "token": token.hash[:16]}, now)
    _say(f"a join token for {identity}: it works once, within {args.ttl}, at this CA alone")
    _say("  put it into a file that only the sidecar may read; it is not shown again")
    if args.output == "json":
        print(as_json({"token": str(token), "spiffe_id": str(identity), "ttl": life}))
    else:
        print(token)
    return 0


def _identity(text: str, ca: LocalCa) -> SpiffeId:
    identity = SpiffeId.of_short(text, ca.trust_domain)
    if identity.trust_domain != ca.trust_domain:
        raise StartError(
            f"`{identity}` is not of this CA's trust domain, which is `{ca.trust_domain}`", _USAGE
        )
    return identity


def _list(args: argparse.Namespace, now: float) -> int:
    from ..ca.ledger import certificates
    from ..ca.revocations import load_revocations

    ca = _open(args)
    denied = load_revocations(ca.folder, ca.trust_domain)
    rows = [
        {
            "spiffe_id": one.id,
            "serial": f"{one.serial:032x}",
            "expires": one.expires,
            "state": "revoked" if one.id in denied.ids or one.serial in denied.serials else "good",
        }
        for one in certificates(ca.folder, now)
    ]
    print(as_json(rows) if args.output == "json" else as_rows(rows, ca.trust_domain))
    return 0


def _revoke(args: argparse.Namespace, now: float) -> int:
    from ..ca.revocations import restore_id, revoke_id, revoke_serial

    ca = _open(args)
    facts: dict[str, object]
    if _is_serial(args.target):
        if args.undo:
            raise StartError("a certificate stays revoked: let the sidecar join anew", _USAGE)
        found = revoke_serial(ca, int(args.target, 16), now)
        facts = {"revoked": found[0].id, "serials": [f"{one.serial:032x}" for one in found]}
    else:
        identity = _identity(args.target, ca)
        if args.undo:
            facts = {"restored": str(identity), "still_revoked": restore_id(ca, identity, now)}
        else:
            revoke_id(ca, identity, now)
            facts = {"revoked": str(identity)}
    _say("sidecars learn it within the refresh time of `sidecar ca serve`")
    _answer(args, facts)
    return 0


def _is_serial(text: str) -> bool:
    digits = set("0123456789abcdef")
    return "/" not in text and 0 < len(text) <= _SERIAL_DIGITS and digits.issuperset(text.lower())


def _bundle(args: argparse.Namespace, now: float) -> int:
    from ..ca.desk import spiffe_bundle
    from ..ca.revocations import load_revocations

    ca = _open(args)
    if args.format == "pem":
        print(ca.bundle.decode(), end="")
    else:
        sequence = load_revocations(ca.folder, ca.trust_domain).sequence
        print(spiffe_bundle(ca.bundle, sequence, None).decode(), end="")
    return 0


def _rotate(args: argparse.Namespace, now: float) -> int:
    from ..ca.log import rfc3339
    from ..ca.turnover import load_root_key, retire, rotate

    if args.drop_now:
        dropped = retire(_open(args), now, at_once=True)
        _answer(args, {"dropped": [one.sha256 for one in dropped]})
        return 0
    _open(args)  # says what is wrong with the CA before its root's key is asked for
    key = load_root_key(args.ca, args.root_key, _secret(args))
    ca, until = rotate(args.ca, key, now, life=_ca_life(args.intermediate_ttl))
    _say("`sidecar ca serve` goes on with the new one, and drops the old one by itself")
    facts = {
        "intermediate": ca.issuer.certificate.sha256,
        "ends": rfc3339(ca.issuer.certificate.not_after),
        "old_one_trusted_until": rfc3339(until),
    }
    _answer(args, facts)
    return 0


def _log(args: argparse.Namespace, now: float) -> int:
    _answer(args, log(args, _open(args)))
    return 0


def _answer(args: argparse.Namespace, facts: Mapping[str, object]) -> None:
    print(as_json(facts) if args.output == "json" else as_table(facts))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
