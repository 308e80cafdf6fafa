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
    logs.setup(settings.log_format, "warning", settings.audit_log)
    if behind := os.environ.get("SUDO_USER"):
        subject["sudo"] = behind[:_LONGEST_NAME]
    audit.note(action, "done", user=f"os:{_account()}", client=_FROM, **subject)


def _account() -> str:
    """The name of the account this runs as, or its number: containers often have no name for it.

    Not what `$LOGNAME` says, as `getpass` would: anybody can say anything there.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
