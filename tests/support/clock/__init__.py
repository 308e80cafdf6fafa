"""A clock of the wall that a test sets while a server runs by it."""

from __future__ import annotations

from pathlib import Path

YEAR = 365 * 86400.0


class WallClock:
    """What `time.time` says in the processes started with `env`; timers are not concerned."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set_by(0.0)
        self.env = {"PYTHONPATH": str(Path(__file__).parent), "TEST_CLOCK": str(self._file)}

    def set_by(self, seconds: float) -> None:
        """Let it differ from the real one by so many seconds from now on."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._file)
