"""Bodies compressed with gzip, as fast as may be.

ISA-L's deflate takes 5 ms for the 5.4 MB of a page of 12,000 files, and makes less of them, than
zlib at its fastest, which takes 23 ms. Only what we made ourselves goes through it; what comes from
outside is decoded by zlib. Where there is no ISA-L, zlib does.
"""

try:
    from isal.igzip import compress
except ImportError:  # a processor that ISA-L is not made for
    from gzip import compress  # type: ignore[assignment]

_LEVEL = 1  # with zlib, 12,000 files: level 5 takes twice as long for 11 % less


def gzipped(body: bytes) -> bytes:
    """The body as one gzip member. The GIL is free meanwhile."""
    # mtime 0: the same page gives the same bytes, in every process
    return compress(body, _LEVEL, mtime=0)
