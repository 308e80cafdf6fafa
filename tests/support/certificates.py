"""A private authority and what it signed, on disk, for servers and clients on loopback."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme


@dataclass(frozen=True, slots=True)
class Certificates:
    """The authority's certificate, and a server's and a client's with their keys (PEM files)."""

    authority: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def make(cls, folder: Path, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> Self:
        authority = trustme.CA()
        server = authority.issue_cert("localhost", "127.0.0.1", key_type=key_type)
        client = authority.issue_cert("reader@px.example")
        made = cls(*(folder / name for name in ("ca.pem", "s.pem", "s.key", "c.pem", "c.key")))
        authority.cert_pem.write_to_path(made.authority)
        server.private_key_pem.write_to_path(made.key)
        server.cert_chain_pems[0].write_to_path(made.cert)
        client.private_key_pem.write_to_path(made.client_key)
        client.cert_chain_pems[0].write_to_path(made.client_cert)
        return made
