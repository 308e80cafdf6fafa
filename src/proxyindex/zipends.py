"""The end of a zip archive, where its directory is, with but a few entries left in that.

zipfile reads all of a directory: 3 µs for each entry, and a wheel has hundreds of which one is
wanted (a seventh of the processor's time of resolving 91 distributions whose index has no core
metadata). What is left here is read, and judged, as any archive is.

Only archives of the plainest kind are recognised: of one disk, without a comment, not zip64.
"""

import struct

_END = struct.Struct("<4s4H2LH")  # signature, …, entries here and in all, length, offset, comment
_LENGTHS = struct.Struct("<3H")  # of an entry's name, extra fields and comment
_END_SIGNATURE, _ENTRY_SIGNATURE = b"PK\x05\x06", b"PK\x01\x02"
_LOCATOR_SIGNATURE, _LOCATOR_SIZE = b"PK\x06\x07", 20  # before the end, of the end of zip64
_LENGTHS_AT, _NAME_AT = 28, 46  # in an entry


def directory_start(tail: bytes, size: int) -> int | None:
    """Where in an archive of `size` bytes that ends in `tail` its directory begins, if it is a
    plain one."""
    if len(tail) < _END.size:
        return None
    signature, *disks, here, total, length, offset, comment = _END.unpack(tail[-_END.size :])
    is_plain = signature == _END_SIGNATURE and (*disks, here, comment) == (0, 0, total, 0)
    is_last = offset + length + _END.size == size
    is_64 = tail.startswith(_LOCATOR_SIGNATURE, len(tail) - _END.size - _LOCATOR_SIZE)
    return offset if is_plain and is_last and not is_64 else None


def with_only(suffix: bytes, tail: bytes, size: int) -> bytes:
    """The `tail` as it would be if there were no other entries than those whose names end in
    `suffix`; unchanged where there are none, the archive is not plain, or its directory is not all
    in the tail."""
    offset = directory_start(tail, size)
    if offset is None or (begin := offset - (size - len(tail))) < 0:
        return tail
    end = len(tail) - _END.size
    *_, total, _, _, _ = _END.unpack_from(tail, end)
    kept, count, position = [], 0, begin
    while count < total and position + _NAME_AT <= end:
        if not tail.startswith(_ENTRY_SIGNATURE, position):
            return tail
        name, extra, remark = _LENGTHS.unpack_from(tail, position + _LENGTHS_AT)
        behind = position + _NAME_AT + name
        stop = behind + extra + remark
        if tail.endswith(suffix, position + _NAME_AT, behind):
            kept.append(tail[position:stop])
        count, position = count + 1, stop
    if (count, position) != (total, end) or not kept:
        return tail
    directory = b"".join(kept)
    last = _END.pack(_END_SIGNATURE, 0, 0, len(kept), len(kept), len(directory), offset, 0)
    left = tail[:begin] + directory + last
    # a comment that stands before the end only now may look like a locator of zip64
    is_plain = directory_start(left, size - len(tail) + len(left)) is not None
    return left if is_plain else tail
