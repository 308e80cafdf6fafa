"""The end of a zip archive, where its directory is, with but a few entries left in that.

zipfile reads all of a directory: 3 µs for each entry, and a wheel has hundreds of which one is
wanted (a seventh of the processor's time of resolving 91 distributions whose index has no core
metadata). What is left here is read, and judged, as any archive is.

Only archives of the plainest kind are recognised: of one disk, without a comment, not zip64.
"""

import struct

END = struct.Struct("<4s4H2LH")  # signature, …, entries here and in all, length, offset, comment
END_SIGNATURE, ENTRY_SIGNATURE = b"PK\x05\x06", b"PK\x01\x02"
LOCATOR = struct.Struct("<4sLQL")  # before the end: signature, …, where the end of zip64 is, …
LOCATOR_SIGNATURE = b"PK\x06\x07"
_LENGTHS = struct.Struct("<3H")  # of an entry's name, extra fields and comment
_LENGTHS_AT, ENTRY_HEAD = 28, 46  # in an entry; bytes of one before its name


def directory_start(tail: bytes, size: int) -> int | None:
    """Where in an archive of `size` bytes that ends in `tail` its directory begins, if it is a
    plain one."""
    if len(tail) < END.size:
        return None
    signature, *disks, here, total, length, offset, comment = END.unpack(tail[-END.size :])
    is_plain = signature == END_SIGNATURE and (*disks, here, comment) == (0, 0, total, 0)
    is_last = offset + length + END.size == size
    is_64 = tail.startswith(LOCATOR_SIGNATURE, len(tail) - END.size - LOCATOR.size)
    return offset if is_plain and is_last and not is_64 else None


def with_only(suffix: bytes, tail: bytes, size: int) -> bytes:
    """The `tail` as it would be if there were no other entries than those whose names end in
    `suffix`; unchanged where there are none, the archive is not plain, or its directory is not all
    in the tail."""
    offset = directory_start(tail, size)
    if offset is None or (begin := offset - (size - len(tail))) < 0:
        return tail
    end = len(tail) - END.size
    *_, total, _, _, _ = END.unpack_from(tail, end)
    kept, count, position = [], 0, begin
    while count < total and position + ENTRY_HEAD <= end:
        if not tail.startswith(ENTRY_SIGNATURE, position):
            return tail
        name, extra, remark = _LENGTHS.unpack_from(tail, position + _LENGTHS_AT)
        behind = position + ENTRY_HEAD + name
        stop = behind + extra + remark
        if tail.endswith(suffix, position + ENTRY_HEAD, behind):
            kept.append(tail[position:stop])
        count, position = count + 1, stop
    if (count, position) != (total, end) or not kept:
        return tail
    directory = b"".join(kept)
    last = END.pack(END_SIGNATURE, 0, 0, len(kept), len(kept), len(directory), offset, 0)
    left = tail[:begin] + directory + last
    # a comment that stands before the end only now may look like a locator of zip64
    is_plain = directory_start(left, size - len(tail) + len(left)) is not None
    return left if is_plain else tail
