"""What may stand in a row of the derived index: text, bytes and numbers, never a pickle.

Part of what fences diskcache in: see `store/index.py`.
"""

import sqlite3

import diskcache
from diskcache.core import MODE_RAW


class PlainDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache is untyped
    """Stores text, bytes and numbers in the row itself, and nothing else."""

    def put(self, key: object) -> tuple[object, bool]:
        if not isinstance(key, str):
            raise TypeError(f"index keys are text, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or not isinstance(key, str):
            raise ValueError("the index holds a key that this program never writes")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, object]:
        if isinstance(value, bytes):
            return 0, MODE_RAW, None, sqlite3.Binary(value)
        if isinstance(value, int | float | str):
            return 0, MODE_RAW, None, value
        raise TypeError(f"index values are bytes, text or numbers, not {type(value).__name__}")

    def fetch(self, mode: int, filename: object, value: object, read: bool) -> object:
        if mode != MODE_RAW or filename is not None:
            raise ValueError("the index holds a value that this program never writes")
        return bytes(value) if isinstance(value, memoryview | bytes) else value

    def remove(self, file_path: str) -> None:
        """Rows own no files, so a row that names one is forged: nothing is unlinked."""


class SizedDisk(PlainDisk):
    """Reports each (int) value as the row's size, so that the database's own triggers keep the
    sum of all values, exact across processes and transactions."""

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, object]:
        if not isinstance(value, int):
            raise TypeError("sizes are integers")
        return value, MODE_RAW, None, value

    def fetch(self, mode: int, filename: object, value: object, read: bool) -> object:
        size = super().fetch(mode, filename, value, read)
        if not isinstance(size, int):
            raise ValueError("the index holds a size that is none")
        return size
