"""Attestations that come with an upload, made into the provenance that clients read (PEP 740).

Their form is checked, and that they speak of this very file; signatures are not: whoever relies
on them checks them against the identities he trusts, which is what they are there for.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

from proxyindex.uploads.rejection import bad

MAX_ATTESTATIONS = 10
_STATEMENT = "https://in-toto.io/Statement/v1"
PUBLISHER = {"kind": "proxyindex"}


class _Material(msgspec.Struct):
    certificate: str
    transparency_entries: list[Any]


class _Envelope(msgspec.Struct):
    statement: str
    signature: str


class _Attestation(msgspec.Struct):
    version: int
    verification_material: _Material
    envelope: _Envelope


def provenance(text: str, filename: str, sha256: str) -> bytes | None:
    """The provenance object for the form's `attestations`, a JSON list; `None` if there are none.

    Raises `UploadRejected`.
    """
    if not text:
        return None
    try:
        attestations = msgspec.json.decode(text, type=list[_Attestation])
        as_sent = json.loads(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise bad(f"The form's attestations are not the JSON they should be: {problem}.") from None
    if len(attestations) > MAX_ATTESTATIONS:
        raise bad(f"The form has more than {MAX_ATTESTATIONS} attestations.")
    for attestation in attestations:
        _check(attestation, filename, sha256)
    if not attestations:
        return None
    bundle = {"publisher": PUBLISHER, "attestations": as_sent}
    return json.dumps({"version": 1, "attestation_bundles": [bundle]}).encode()


def _check(attestation: _Attestation, filename: str, sha256: str) -> None:
    if attestation.version != 1:
        raise bad(f"An attestation is of version {attestation.version}, not 1.")
    try:
        statement = json.loads(base64.b64decode(attestation.envelope.statement, validate=True))
        subjects = [(one["name"], one["digest"]["sha256"]) for one in statement["subject"]]
        kind = statement["_type"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise bad("The statement of an attestation cannot be read.") from None
    if kind != _STATEMENT or subjects != [(filename, sha256)]:
        raise bad(f"An attestation does not speak of {filename!r} and its sha256.")
