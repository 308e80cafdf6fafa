"""Access lines of answers that are given over and over: cheap by construction.

One line through `logging` costs more than a remembered answer (measured: 14 µs of 20). So all but
client, user and times is made ready once, and lines are written by the score, a moment late. They
are the same lines: `tests/unit/test_lines.py` compares.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from proxyindex.logs import escape, mask
from proxyindex.web.accesslog import MIDDLE, logger
from proxyindex.web.given import Prepared

_HOLD_SECONDS = 0.05
_PIECE = 4096  # characters: what a pipe takes as one, so that lines of several processes stay whole


class AccessLines:
    """Implements `web.given.AccessLines`; for one event loop."""

    def __init__(self, log_format: Literal["text", "json"]) -> None:
        self._is_json = log_format == "json"
        self._waiting: list[str] = []
        self._client = self._shown = ""  # of the last line, and as it stands there
        self._second = 0
        self._clock = ""

    def prepare(self, fields: Mapping[str, object]) -> Prepared:
        """What stands between time and milliseconds, client taken out, and what follows."""
        middle = mask(MIDDLE % fields)
        if not self._is_json:
            return escape(middle), ""
        between = ("method", "path", "status", "index", "project", "file", "outcome", "bytes")
        known = {key: _masked(fields[key]) for key in between}
        return json.dumps(middle)[1:-1], json.dumps(known)[1:-1]

    def write(self, prepared: Prepared, client: str, user: str, seconds: float) -> None:
        """One line, with the present time. `client` is whom a front named, so that anybody may have
        chosen it; `user` is the name, or `-`."""
        if not logger.isEnabledFor(logging.INFO):
            return
        moment, spent = self._now(), f"{seconds * 1000:.1f}"
        middle, known = prepared
        if user != "-":
            user = _spelled_user(user, self._is_json)
        if client != self._client:
            self._client, self._shown = client, _spelled(client, self._is_json)
        client = self._shown
        if self._is_json:
            line = (
                f'{{"time": "{moment}", "level": "info", "logger": "{logger.name}", "message": '
                f'"{client} {user}{middle}{spent}ms", "client": "{client}", '
                f'"user": "{user}", {known}, "milliseconds": {spent}, "aborted": false}}\n'
            )
        else:
            line = f"{moment} INFO {logger.name}: {client} {user}{middle}{spent}ms\n"
        self._waiting.append(line)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(_HOLD_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        piece = ""
        for line in waiting:
            if piece and len(piece) + len(line) > _PIECE:
                _put(piece)
                piece = ""
            piece += line
        if piece:
            _put(piece)

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._clock = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._clock}.{int((now - second) * 1000):03d}Z"


def _spelled(name: str, is_json: bool) -> str:
    return json.dumps(mask(name))[1:-1] if is_json else escape(mask(name))


_spelled_user = lru_cache(1024)(_spelled)  # those that were admitted: few, and short


def _masked(value: object) -> object:
    return mask(value) if isinstance(value, str) else value


def _put(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
