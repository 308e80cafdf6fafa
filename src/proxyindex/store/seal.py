"""Lines that tell whether they are still what was written: JSON, a tab, its CRC-32 in hex.

A disk's lost bits and torn writes are found out, not malice: whoever may write to the cache can
seal, too.
"""

import zlib


def sealed(line: bytes) -> bytes:
    """The line with its seal. It holds no tab of its own, as JSON never does."""
    return b"%b\t%08x" % (line, zlib.crc32(line))


def unsealed(line: bytes) -> bytes:
    """The line without its seal. Raises `ValueError` if that is missing or does not fit."""
    content, _, seal = line.rstrip(b"\n").partition(b"\t")
    if seal != b"%08x" % zlib.crc32(content):
        raise ValueError("a line is damaged")
    return content
