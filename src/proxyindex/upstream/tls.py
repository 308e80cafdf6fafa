"""Whom to believe under TLS, and by what to be known."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import truststore


def introduced(
    ca_file: Path | None, client_cert: Path | None, client_key: Path | None
) -> ssl.SSLContext:
    """As `trusting`, and with a certificate of our own, if there is one. Raises what that does."""
    context = trusting(ca_file)
    if client_cert:
        present(context, client_cert, client_key)
    return context


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """For connections to others: the system's trust store as pip has it, or a CA file alone.

    Raises `OSError` (`ssl.SSLError` too) for a file that holds no certificates.
    """
    if ca_file:
        return ssl.create_default_context(cafile=os.fspath(ca_file))
    if ssl.get_default_verify_paths().cafile:
        # where OpenSSL finds the system's bundle by itself, truststore would have it load the very
        # same file, but anew at every handshake (measured: 20 ms of the event loop each)
        return ssl.create_default_context()
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def present(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    """Have the context present this certificate; the key may be in its file.

    Raises `OSError` (`ssl.SSLError` too) and `ValueError` for files that cannot be used.
    """
    # without a password to give, OpenSSL would ask on the terminal
    context.load_cert_chain(cert, key, password=str)
