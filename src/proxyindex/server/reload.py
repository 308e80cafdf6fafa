"""Reading the configuration again while serving: what SIGHUP asks for. See docs/decisions/0028."""

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace

from proxyindex.errors import ProxyindexError
from proxyindex.settings import Settings

log = logging.getLogger(__name__)

Load = Callable[[], Settings]
RENEW_KEY = "renew"  # where the application's state has what moves it to other settings

# what sockets, processes, the stores and the log were made with
_FIXED = (
    "host",
    "port",
    "unix_socket",
    "tls_cert",
    "tls_key",
    "base_path",
    "trusted_proxies",
    "workers",
    "grace",
    "cache_dir",
    "cache_size",
    "page_cache_size",
    "log_format",
    "log_level",
    "audit_log",
)


class Configuration:
    """The settings in force, and how they are found again.

    `load` finds them as at the start and `check` looks whether they can work; both raise
    `ProxyindexError` for those that cannot.
    """

    def __init__(
        self, settings: Settings, load: Load | None, check: Callable[[Settings], None]
    ) -> None:
        self.settings = settings
        self._load = load or (lambda: settings)
        self._check = check

    def renewed(self, *, is_told: bool) -> Settings:
        """The settings as they are now, but for those that only a restart changes; `is_told`:
        the log says which of these were changed."""
        found = self._load()
        fixed = {key: getattr(self.settings, key) for key in _FIXED}
        changed = [key for key in _FIXED if getattr(found, key) != fixed[key]]
        found = replace(found, **fixed)
        self._check(found)
        if changed and is_told:
            log.warning(
                "changed, but only a restart makes it effective: %s",
                ", ".join(key.replace("_", "-") for key in changed),
            )
        return found

    def renew(self) -> bool:
        """Take the settings as they are now, for processes yet to come; whether they are sound."""
        try:
            self.settings = self.renewed(is_told=True)
        except Exception as problem:  # noqa: BLE001 - it must not end a server that serves
            refuse(problem)
            return False
        return True


def refuse(problem: Exception) -> None:
    """Log why a configuration is not taken; with a traceback if it is a fault of the program."""
    is_foreseen = isinstance(problem, ProxyindexError | OSError)
    log.error(
        "configuration refused, the old one goes on: %s",
        " ".join(str(problem).splitlines()),
        exc_info=None if is_foreseen else problem,
    )


def hold_hangups() -> None:
    """Let SIGHUP wait until `take_hangups`, instead of ending a process that is yet to serve."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def take_hangups() -> None:
    """From now on somebody cares for SIGHUP."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


class Terminal:
    """The terminal the process was started from, if any: a hang-up of it ends the process.

    The same signal asks for the configuration to be read again. Told apart, because a server
    should not outlive the window it was started in, unless `nohup` says so.
    """

    def __init__(self) -> None:
        is_heeded = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._is_there = is_heeded and _has_terminal()

    def is_gone(self) -> bool:
        """Whether it was there, and is not any more."""
        return self._is_there and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
