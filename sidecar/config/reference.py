"""The reference, made from the tables that documents are read with.

What is printed here is what is read: a field that is not in a table is unknown
to both. Pages are Markdown, as `docs/reference` holds them; a test compares.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from .codes import CODES
from .conditions import ATTRIBUTES
from .kinds import KINDS, LATER_KINDS, Kind
from .metadata import METADATA
from .schema import AnyField, Field, Struct, Support, Unused

WIDTH: Final = 88
_MADE: Final = "<!-- Made by `sidecar explain --page {page}`; do not edit. -->"


def explained_code(code: str) -> str:
    """Return what `sidecar explain` says of *code*; KeyError if there is none such."""
    found = CODES[code]
    return f"{code}: {found.title}\n\n{textwrap.fill(found.text, WIDTH)}\n"


def explained_kind(name: str) -> str:
    """Return the fields of the kind *name* as a person reads them; KeyError if there is none."""
    kind = {kind.name: kind for kind in KINDS}[name]
    lines = [f"{kind.name}: {kind.doc}", f"apiVersion: {' or '.join(kind.versions)}", ""]
    for path, field in _rows(_spec_of(kind), "spec"):
        lines.append(f"{path.replace('`', '')}  ({_form(field)})")
        lines += textwrap.wrap(
            _meaning(field), WIDTH, initial_indent="    ", subsequent_indent="    "
        )
    return "\n".join(lines) + "\n"


def topics() -> str:
    """Return the list of what can be explained."""
    codes = (f"  {code}  {found.title}" for code, found in CODES.items())
    kinds = (f"  {kind.name:<20} {kind.doc}" for kind in KINDS)
    return "\n".join(["Kinds of documents:", *kinds, "", "Codes of problems:", *codes]) + "\n"


def codes_page() -> str:
    """Return `docs/reference/error-codes.md`."""
    lines = [
        _MADE.format(page="error-codes"),
        "# Error codes",
        "",
        "Every problem that `sidecar validate`, `run` and a reload report has one of these codes.",
        "`sidecar explain CODE` prints the same paragraphs. An error keeps a configuration from",
        "being used; a warning does not.",
        "",
    ]
    for code, found in CODES.items():
        lines += [f"## {code}: {found.title}", "", found.text, ""]
    return "\n".join(lines)


def documents_page() -> str:
    """Return `docs/reference/documents.md`."""
    lines = [_MADE.format(page="documents"), "# Documents", "", *_INTRODUCTION]
    lines += ["## metadata", "", *_table(METADATA, "metadata"), ""]
    for kind in KINDS:
        lines += _kind_section(kind)
    lines += ["## Kinds that are known and do not act yet", "", *_later_table(), ""]
    return "\n".join(lines)


_INTRODUCTION: Final = (
    "Configuration is YAML 1.2 (or JSON), several documents a file, each with `apiVersion`,",
    "`kind`, `metadata` and `spec`. Istio's kinds have Istio's fields and meaning. A field that",
    "is not listed here is an error, never ignored. Of those listed, some do not act yet: they",
    "draw a warning, and an error where leaving them out could let more through than their",
    "author meant.",
    "",
    "Not read are duplicate keys, anchors, aliases, merge keys, tags, tabs for indentation, and",
    "`yes`, `no`, `on`, `off` without quotes. Durations are `500ms`, `30s`, `1m30s`; sizes are",
    "bytes or `64KiB`, `1MiB`. Paths of files are relative to the folder of the file they are",
    "written in. Files that others may write are refused.",
    "",
)


def _kind_section(kind: Kind) -> Iterator[str]:
    yield from (f"## {kind.name}", "", kind.doc, "")
    yield from (f"`apiVersion`: {' or '.join(f'`{one}`' for one in kind.versions)}", "")
    yield from _table(_spec_of(kind), "spec")
    yield ""
    if kind.name == "AuthorizationPolicy":
        yield from ("### Attributes of `when`", "", *_attributes_table(), "")


def _spec_of(kind: Kind) -> Struct[object]:
    spec = kind.struct.known["spec"]
    struct = spec.form.struct() if isinstance(spec, Field) else None
    if struct is None:
        raise TypeError(f"the kind {kind.name} has no spec")
    return struct


def _table(struct: Struct[object], path: str) -> Iterator[str]:
    rows = list(_rows(struct, path))
    yield "| Field | Form | Default | Meaning |"
    yield "|---|---|---|---|"
    for names, field in rows:
        if not _is_inert(field):
            default = field.default if isinstance(field, Field) else ""
            if isinstance(field, Field) and field.required:
                default = "*required*"
            yield f"| {names} | {_form(field)} | {default} | {_meaning(field)} |"
    inert = [names for names, field in rows if _is_inert(field)]
    if inert:
        yield from ("", f"Known and without meaning here: {', '.join(inert)}.")


def _is_inert(field: AnyField) -> bool:
    return isinstance(field, Unused) and field.support is Support.INERT


def _rows(struct: Struct[object], path: str) -> Iterator[tuple[str, AnyField]]:
    """Yield each field below *struct* with its name, that of its `not` twin beside it."""
    for field in struct.fields:
        twin = f"not{field.name[0].upper()}{field.name[1:]}"
        if twin in struct.known:
            yield f"`{path}.{field.name}`, `{twin}`", field
        elif not _is_twin(field, struct):
            yield f"`{path}.{field.name}`", field
        inner = field.form.struct() if isinstance(field, Field) else None
        if isinstance(field, Field) and inner is not None:
            yield from _rows(inner, f"{path}.{field.name}{field.form.suffix}")


def _is_twin(field: AnyField, struct: Struct[object]) -> bool:
    plain = field.name.removeprefix("not")
    return plain != field.name and f"{plain[0].lower()}{plain[1:]}" in struct.known


def _form(field: AnyField) -> str:
    return field.form.name if isinstance(field, Field) else field.support.value


def _meaning(field: AnyField) -> str:
    if isinstance(field, Field):
        return field.doc
    prefix = {
        Support.INERT: "",
        Support.LATER: "Warning: no effect yet. ",
        Support.REFUSED: "Error: cannot be honoured yet. ",
    }
    return prefix[field.support] + field.doc


def _attributes_table() -> Iterator[str]:
    yield "A key in brackets may be written with dots: `request.headers.x-env`."
    yield ""
    yield "| Key | Meaning |"
    yield "|---|---|"
    for attribute in ATTRIBUTES:
        key = f"{attribute.name}[…]" if attribute.keyed else attribute.name
        why = f" Error: cannot be honoured yet. {attribute.refused}" if attribute.refused else ""
        yield f"| `{key}` | {attribute.doc}{why} |"


def _later_table() -> Iterator[str]:
    yield "| Kind | `apiVersion` | Meaning | Writing one is |"
    yield "|---|---|---|---|"
    for kind in LATER_KINDS:
        versions = ", ".join(f"`{one}`" for one in kind.versions)
        yield f"| `{kind.name}` | {versions} | {kind.doc} | an error: {kind.lets_more} |"
