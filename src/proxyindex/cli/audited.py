"""What commands change leaves the same lines in the audit log as what is changed by HTTP."""

from __future__ import annotations

import os
import pwd

from proxyindex import audit, logs
from proxyindex.settings import Settings

_FROM = "command-line"  # where others have an address
_LONGEST_NAME = 100


def note(settings: Settings, action: str, **subject: str) -> None:
    """One line, where a server of these settings writes its own, about a change that was made.

    `sudo` is whom sudo ran it for: a claim, since whoever has the account may make it himself.
    """
    _begin(settings)
    if behind := _behind():
        subject["sudo"] = behind
    audit.note(action, "done", user=f"os:{_account()}", client=_FROM, **subject)


def changing(
    settings: Settings, action: audit.Action, index: str, source: str | None = None
) -> audit.Change:
    """Who is about to change files of this index, and how. Lines are written as `note` does."""
    _begin(settings)
    return audit.Change(action, f"os:{_account()}", _FROM, index, source=source, sudo=_behind())


def _begin(settings: Settings) -> None:
    logs.setup(settings.log_format, "warning", settings.audit_log)


def _behind() -> str | None:
    return os.environ.get("SUDO_USER", "")[:_LONGEST_NAME] or None


def _account() -> str:
    """The name of the account this runs as, or its number: containers often have no name for it.

    Not what `$LOGNAME` says, as `getpass` would: anybody can say anything there.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
