"""Every problem's code, with the paragraph that `sidecar explain` prints.

A code is never given to another problem: people search for it. SC01 is text,
SC02 fields and values, SC03 documents, SC04 policies, SC05 peers and scans, SC06
traffic, SC07 the bootstrap, SC08 files, SC09 what documents mean together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from .policy_codes import POLICIES
from .traffic_codes import TRAFFIC


@dataclass(frozen=True, slots=True)
class Code:
    """A code's title and its paragraph."""

    title: str
    text: str


_TEXT: Final = {
    "SC0101": Code(
        "not UTF-8",
        "Configuration is read as UTF-8 and nothing else, so that two readers cannot see two "
        "texts in one file. Save the file as UTF-8; a byte order mark at its beginning is allowed.",
    ),
    "SC0102": Code(
        "not YAML",
        "The text breaks YAML's syntax at this place. What stands before it was read, the rest of "
        "the file was not. The most frequent causes are indentation that does not line up, a "
        "value with `: ` or a leading `@` or `*` that needs quotes, and a quote or bracket that "
        "is not closed.",
    ),
    "SC0103": Code(
        "tab in indentation",
        "YAML is indented with spaces only. Let your editor replace tabs in this file.",
    ),
    "SC0104": Code(
        "key written twice",
        "One mapping holds the same key twice. Most YAML readers keep one of the two without a "
        "word, and not the same one. In a policy that is a rule that is there to be seen and does "
        "not hold, so it is refused. Join the two values, or remove one.",
    ),
    "SC0105": Code(
        "word that may be a boolean",
        "`yes`, `no`, `on` and `off` are booleans in YAML 1.1 and text in YAML 1.2. Files here "
        "are YAML 1.2, yet other tools may read the same file differently. Write `true` or "
        "`false`, or put the word in quotes.",
    ),
    "SC0106": Code(
        "number that may be another",
        "A number with leading zeros is octal in YAML 1.1 and decimal in YAML 1.2; one of more "
        "than 18 digits is cut by some readers. Write the number plainly, or put it in quotes if "
        "it is text.",
    ),
    "SC0107": Code(
        "anchor, alias, merge key, tag or directive",
        "Anchors (`&a`), aliases (`*a`), merge keys (`<<`), tags (`!!str`) and directives "
        "(`%YAML`) are not read. A few lines of anchors can stand for gigabytes, and they hide "
        "what a rule says from who reads it. Write the value out. A value that begins with `*` "
        'or `&` needs quotes: `"*"`.',
    ),
    "SC0108": Code(
        "character that cannot be seen",
        "The file holds a control character, a zero-width character, or one that changes the "
        "direction of writing. With it a rule can look like another one. Remove it. If it is "
        'meant, as in a pattern of a scan, write it as an escape in double quotes: `"\\u202e"`.',
    ),
    "SC0109": Code(
        "too much",
        "The file, its nesting, or the number of its values or documents is over a limit. The "
        "limits keep one file from taking all memory; no configuration written by hand comes near "
        "them.",
    ),
    "SC0110": Code(
        "key that is no word",
        "The key of a mapping must be a word. A list, a mapping or nothing at all stands in its "
        "place.",
    ),
    "SC0111": Code(
        "brackets between braces",
        "Between `{` and `}` YAML reads `[` as the beginning of a list, so "
        "`{key: request.headers[x-env]}` is not YAML. Put the key in quotes, or write it with a "
        "dot: `request.headers.x-env` and `mcp.arguments.path` mean the same.",
    ),
}

_FIELDS: Final = {
    "SC0202": Code(
        "missing field", "The document lacks a field that it cannot do without. The help names it."
    ),
    "SC0203": Code(
        "wrong form",
        "A value has another form than its field takes: a list where text should be, a number "
        "where text should be, and so on. Nothing is converted: numbers that are meant as text, "
        "such as ports in a policy or the values of labels, need quotes.",
    ),
    "SC0204": Code(
        "unknown field",
        "No field of this name is known at this place. It is never ignored: a rule with a "
        "mistyped `tool` instead of `tools` would hold for every tool. The help names the field "
        "that was probably meant, also where it belongs a level deeper.",
    ),
    "SC0205": Code(
        "unknown word",
        "The field takes one of a few words, in exactly their spelling. The help lists them.",
    ),
    "SC0206": Code("number out of range", "The number is too small or too large for its field."),
    "SC0207": Code(
        "not a duration",
        "Durations are a number and a unit, or several such pairs: `500ms`, `30s`, `1m30s`, `1h`. "
        "They are whole milliseconds and at least one. A number without a unit is not guessed at.",
    ),
    "SC0208": Code(
        "not a size",
        "Sizes are bytes, or a number with `KiB`, `MiB` or `GiB`, and never zero: a limit cannot "
        "be switched off.",
    ),
    "SC0209": Code(
        "no value",
        "The key is there and its value is not; often the lines that belong to it have lost their "
        "indentation. An empty `from:` could mean anybody or nobody, so it is refused. Give it a "
        "value or remove the line.",
    ),
    "SC0210": Code(
        "too few or too many",
        "A list, mapping or text is empty where that says nothing, or longer than is read.",
    ),
    "SC0211": Code(
        "not what the field takes",
        "The text is not a name, address, path or the like as the field takes it. The help shows "
        "the form.",
    ),
    "SC0212": Code(
        "not a rate",
        "A rate is a whole number of calls per second, minute or hour: `10/s`, `100/m`, `1000/h`, "
        "or `10/second`, `100/minute`, `1000/hour`. Zero would let no call through, which is what "
        "an AuthorizationPolicy of action DENY is for.",
    ),
}

_DOCUMENTS: Final = {
    "SC0301": Code(
        "unknown kind",
        "No document of this kind is read. Files may hold Istio's security and networking kinds "
        "and sidecar's own; other kinds of Kubernetes belong in other files.",
    ),
    "SC0302": Code(
        "unknown apiVersion",
        "The kind is known, and not under this `apiVersion`. Istio has a kind `Sidecar` as well; "
        "the bootstrap here is `apiVersion: sidecar/v1`.",
    ),
    "SC0303": Code(
        "no effect yet",
        "The field or document is known and does not act yet. Nothing is less safe without it, so "
        "it is a warning and no error.",
    ),
    "SC0304": Code(
        "cannot be honoured yet",
        "The field, value or document is known and cannot be honoured yet, and leaving it out "
        "could let more through than its author meant: a caller, a call, or plaintext. So it is "
        "an error. Remove it and say what you need with what acts today.",
    ),
    "SC0305": Code(
        "two documents of one name",
        "Two documents have the same kind, namespace and name. In a cluster the second would "
        "replace the first; from files it would depend on their order.",
    ),
    "SC0306": Code(
        "two bootstraps",
        "One sidecar has one bootstrap, a document of kind `Sidecar`. Keep those of other "
        "sidecars in other folders.",
    ),
}

_POLICIES: Final = {code: Code(*said) for code, said in POLICIES.items()}

_SCANS: Final = {
    "SC0501": Code(
        "ports without a selector",
        "`portLevelMtls` names ports of a workload and so needs a `selector`, as in Istio.",
    ),
    "SC0502": Code(
        "two patterns with one id", "A finding names its pattern by id: ids are unique."
    ),
    "SC0503": Code(
        "pattern that says little",
        "The scan compares letters and digits, however a text is spelled and spaced. A pattern "
        "without any cannot be looked for; a very short one is found in harmless messages.",
    ),
    "SC0504": Code(
        "module not loaded",
        "The scan is built in. Of a WasmPlugin its `pluginConfig` takes effect: "
        "`blocked_patterns`, `max_body_size_kb`, `action_on_match`. The module at its `url` is "
        "neither fetched nor run.",
    ),
}

_TRAFFIC: Final = {code: Code(*said) for code, said in TRAFFIC.items()}

_BOOTSTRAP: Final = {
    "SC0701": Code(
        "identity",
        "`identity` names either a folder with a certificate (`certs`) or a CA (`ca`): a local one "
        "that exists, from which a short-lived child process gets a certificate, or the URL of one "
        "on another machine, which is joined with a token (`tokenFile`).",
    ),
    "SC0702": Code(
        "open by default",
        "With `defaultAction: ALLOW` every caller is admitted where no ALLOW policy is for the "
        "workload, as in Istio. A policy that is lost, or whose selector has a typing mistake, "
        "then opens the server.",
    ),
    "SC0703": Code(
        "admin interface in reach of others",
        "The admin interface tells who calls what. It listens on a Unix socket or on a loopback "
        "address only.",
    ),
    "SC0704": Code(
        "plaintext leaves the machine",
        "Calls to this address leave the machine unencrypted, and its server can be reached by "
        "others without passing any rule. Put a sidecar beside that server.",
    ),
    "SC0705": Code("address used twice", "Two listeners cannot have the same address and port."),
    "SC0706": Code(
        "own trust domain among the others",
        "`trustBundles` lists roots of other trust domains. Those of the sidecar's own come with "
        "its identity; roots of different trust domains are never merged.",
    ),
    "SC0707": Code(
        "bundle endpoint",
        "A bundle's endpoint is known either by the authorities of the public web (a URL alone), "
        "or by the SPIFFE ID of who serves it (`spiffeId`), proved at first by roots in a file "
        "(`bootstrap`).",
    ),
    "SC0708": Code(
        "for which local processes",
        "Whoever connects to an outbound listener calls with the sidecar's identity. On a Unix "
        "socket the kernel tells which user that is: `allowUids` names those who may, and without "
        "it only the sidecar's own user may. Over TCP nobody can tell, so it takes "
        "`allowAnyLocalProcess: true`.",
    ),
    "SC0709": Code(
        "outbound listener reachable from elsewhere",
        "An outbound listener is for processes of this machine: a Unix socket or a loopback "
        "address. Whoever else reached it would call with the sidecar's identity.",
    ),
    "SC0710": Code(
        "which server",
        "An inbound has one server behind it: `to` names one that listens, `stdio` a program that "
        "the sidecar starts and speaks with over its standard streams. Write exactly one of them.",
    ),
    "SC0711": Code(
        "variable that is never handed on",
        "The variables by which a service manager speaks with a service (`NOTIFY_SOCKET`, "
        "`LISTEN_*`, `WATCHDOG_*`, `CREDENTIALS_DIRECTORY` and the like) are the sidecar's own. A "
        "program that it starts never gets them.",
    ),
}

_FILES: Final = {
    "SC0801": Code("no such file", "The file or folder does not exist."),
    "SC0802": Code("unreadable", "The file cannot be read, or is no file."),
    "SC0803": Code(
        "writable by others",
        "Whoever can write a file of configuration decides what is allowed. A file is refused if "
        "everybody, or a group that is not our own, can write it or its folder. Take the right "
        "away with `chmod go-w`.",
    ),
    "SC0804": Code(
        "belongs to another user",
        "The file belongs neither to root nor to the user that runs the sidecar, so a third can "
        "change it at any time.",
    ),
    "SC0805": Code(
        "nothing in the folder",
        "The folder holds no `*.yaml`, `*.yml` or `*.json` files. Hidden files and subfolders are "
        "not read.",
    ),
    "SC0806": Code("too many files", "More files or bytes than are read in all."),
}

_TOGETHER: Final = {
    "SC0901": Code(
        "selects nothing",
        "The document is not for this workload: its namespace is another one, or its selector "
        "asks for labels that the bootstrap's `metadata.labels` do not have. It has no effect "
        "here. Check both for typing mistakes.",
    ),
    "SC0902": Code(
        "no such server",
        "The `to` of an inbound names a host that no ServiceEntry has, or a port it does not have.",
    ),
    "SC0903": Code(
        "asks for tokens where none are verified",
        "A rule asks for a token's principal or claims (`requestPrincipals`, `request.auth...`), "
        "and no RequestAuthentication is for this workload. Nobody's token is verified then, so "
        "nobody has any: an ALLOW rule that asks for one never matches, and one that asks for "
        "its absence always does.",
    ),
    "SC0904": Code(
        "two documents for one host",
        "Two VirtualServices route the calls to one host, or two DestinationRules say the same "
        "thing of it differently. Which of them counts would depend on the order of files. "
        "DestinationRules that add subsets to one another are joined, as in Istio.",
    ),
    "SC0905": Code(
        "route that leads nowhere",
        "The destination of a route is a host that no ServiceEntry has, a port it does not have, "
        "or a subset that no DestinationRule names or no endpoint has the labels of.",
    ),
    "SC0906": Code(
        "routes that no call takes",
        "A VirtualService is for calls to the services in its `hosts`: those that inbounds name "
        "as their `service`, which is the host of `to` where it is not written.",
    ),
    "SC0907": Code(
        "nobody is named who may answer",
        "Calls to the service go over mTLS, and no SPIFFE ID is named of which the server must "
        "prove one. Write them as `subjectAltNames` in the ServiceEntry, such as "
        "`spiffe://cluster.local/ns/mcp-prod/sa/files`, or in the `tls` of its DestinationRule, "
        "where `mode` may also say that the service is no part of the mesh.",
    ),
}

CODES: Final[Mapping[str, Code]] = MappingProxyType(
    _TEXT | _FIELDS | _DOCUMENTS | _POLICIES | _SCANS | _TRAFFIC | _BOOTSTRAP | _FILES | _TOGETHER
)
