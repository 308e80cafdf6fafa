"""Files that were sent, kept open: any part of them can be sent again without looking for them."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from proxyindex import disk
from proxyindex.inquiry import Ground
from proxyindex.web.accesslog import Exchange, line_fields
from proxyindex.web.conditional import Unsatisfiable, span_of
from proxyindex.web.given import AccessLines, Answered, Gate, Given, Part, Prepared, wire_fields

_MOST_OPEN = 256
_MOST_LINES = 16  # of a file: few lengths are asked for again and again
_LENGTHS = frozenset({b"content-length", b"content-range"})


@dataclass(slots=True)
class OpenFile:
    """A file that was sent: its descriptor and size, and its fields but for those of the length."""

    fd: int
    size: int
    fields: bytes
    ground: Ground
    exchange: Exchange
    gate: Gate | None
    scope: MutableMapping[str, Any]
    lines: dict[tuple[int, int], Prepared]


class OpenFiles:
    """The open files of one worker by target, least recently used ones leaving first."""

    def __init__(self, lines: AccessLines) -> None:
        self._lines = lines
        self._files: OrderedDict[bytes, OpenFile] = OrderedDict()

    def find(self, target: bytes) -> OpenFile | None:
        return self._files.get(target)

    def answer(self, target: bytes, file: OpenFile, span: bytes) -> Given | None:
        """The file or the range of it that is asked for."""
        asked = span_of(span.decode("latin-1"), file.size) if span else None
        if isinstance(asked, Unsatisfiable) or (span and asked is None):
            return None
        self._files.move_to_end(target)
        for use in file.ground.uses:
            use()
        start, stop = (asked.start, asked.stop) if asked else (0, file.size)
        status, fields = 200, file.fields
        if asked:
            status = 206
            fields += b"content-range: bytes %d-%d/%d\r\n" % (start, stop - 1, file.size)
        fields += b"content-length: %d\r\n\r\n" % (stop - start)
        line = self._line(file, status, stop - start)
        part = Part(file.fd, file.size, start, stop, file.scope["path"])
        return Given(status, fields, b"", file.exchange, line, part)

    def keep(self, answered: Answered, fd: int) -> None:
        """Take over `fd`, of the file that was sent."""
        target = answered.scope["raw_path"]
        self.drop(target)
        headers, exchange = answered.again()
        fields = wire_fields([header for header in headers if header[0] not in _LENGTHS])
        known = {"method": "GET", "path": answered.scope["path"]}
        size = os.fstat(fd).st_size
        self._files[target] = OpenFile(
            fd, size, fields, answered.inquiry.ground, exchange, answered.gate, known, {}
        )
        while len(self._files) > _MOST_OPEN:
            self.drop(next(iter(self._files)))

    def sweep(self) -> None:
        """Close what was removed or replaced: an open file still fills the disk when evicted.

        One look at each: what else it rests on is looked at when it is asked for, and may be much.
        """
        for target, file in list(self._files.items()):
            if not os.fstat(file.fd).st_nlink:
                self.drop(target)

    def close(self) -> None:
        """Close all of them."""
        for target in list(self._files):
            self.drop(target)

    def _line(self, file: OpenFile, status: int, size: int) -> Prepared:
        key = status, size
        if (line := file.lines.get(key)) is None:
            if len(file.lines) >= _MOST_LINES:
                file.lines.clear()
            fields = line_fields(file.scope, file.exchange, status, size)
            line = file.lines[key] = self._lines.prepare(fields)
        return line

    def drop(self, target: bytes) -> None:
        """Close it, behind what is to be sent from it at the end of this turn of the loop."""
        if (old := self._files.pop(target, None)) is not None:
            asyncio.get_running_loop().call_soon(disk.close, old.fd, old.size)
