"""Gzip as it comes over the wire: in pieces, of one member or several."""

import zlib

_GZIP = zlib.MAX_WBITS | 16
_MOST_MEMBERS = 10_000  # each costs time, and an empty one costs its sender 20 bytes


class Unzip:
    """Decodes a gzip body piece by piece, all of its members (RFC 1952, 2.2).

    What zlib itself does stops after the first member: a page sent in two would be silently short.
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._count = 1

    @property
    def is_whole(self) -> bool:
        """Whether the last member has come to its end."""
        return self._member.eof

    def add(self, piece: bytes, most: int) -> bytes:
        """What `piece` decodes to, `most` bytes (at least one) of it.

        Raises `zlib.error` for anything but gzip, after the first member, too.
        """
        first = b""
        if not self._member.eof:
            first = self._member.decompress(piece, most)
            piece = self._member.unused_data
            if not piece or len(first) >= most:
                return first  # as nearly always: two copies less
        decoded = bytearray(first)
        while piece and len(decoded) < most:
            if self._member.eof:
                piece = piece.lstrip(b"\0")  # padding, as gzip itself takes it
                if not piece:
                    break
                self._begin()
            decoded += self._member.decompress(piece, most - len(decoded))
            piece = self._member.unused_data
        return bytes(decoded)

    def _begin(self) -> None:
        self._count += 1
        if self._count > _MOST_MEMBERS:
            raise zlib.error("too many members")
        self._member = zlib.decompressobj(_GZIP)
