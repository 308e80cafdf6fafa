"""Gzip in pieces, of one member or several: over the wire, around a tar archive."""

import zlib
from collections.abc import Iterable, Iterator

GZIP = zlib.MAX_WBITS | 16  # zlib's window bits with the framing of the format
ZLIB = zlib.MAX_WBITS
PIECE = 256 * 1024  # bytes, at most, of what comes out at once
_MOST_MEMBERS = 10_000  # each costs time, and an empty one costs its sender 20 bytes


class Unzip:
    """Decodes piece by piece, all members (RFC 1952, 2.2).

    What zlib itself does stops after the first member: a page sent in two would be silently short.
    """

    def __init__(self, window: int = GZIP) -> None:
        self._window = window
        self._member = zlib.decompressobj(window)
        self._count = 1

    @property
    def is_whole(self) -> bool:
        """Whether the last member has come to its end, where its checksum was right."""
        return self._member.eof

    def add(self, piece: bytes) -> Iterator[bytes]:
        """What `piece` decodes to; to be taken to its end before the next is added, or left.

        Raises `zlib.error` for anything but gzip, after the first member, too.
        """
        while piece:
            if self._member.eof:
                piece = piece.lstrip(b"\0")  # padding, as gzip itself takes it
                if not piece:
                    return
                self._begin()
            # zlib may hold output back although it has consumed all input: ask until it has none
            while decoded := self._member.decompress(piece, PIECE):
                yield decoded
                if self._member.eof:
                    break  # asked once more, zlib would keep what is left twice
                piece = self._member.unconsumed_tail
            piece = self._member.unused_data

    def _begin(self) -> None:
        self._count += 1
        if self._count > _MOST_MEMBERS:
            raise zlib.error("too many members")
        self._member = zlib.decompressobj(self._window)


def unzipped(pieces: Iterable[bytes], window: int = GZIP) -> Iterator[bytes]:
    """All that is coded in the pieces. Raises `zlib.error`, and `EOFError` when the end is cut."""
    unzip = Unzip(window)
    for piece in pieces:
        yield from unzip.add(piece)
    if not unzip.is_whole:
        raise EOFError("its end is missing")
