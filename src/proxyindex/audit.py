"""The audit log: a line for each change and each refused log-in. Who, what, from where, outcome."""

import json
import logging
import re

logger = logging.getLogger("proxyindex.audit")

_BARE = re.compile(r"[^\s\"'=]+")


def note(action: str, outcome: str, *, user: str | None, client: str, **subject: str) -> None:
    """One line. `action` as a phrase, such as `upload`; `outcome` a word, such as `done` or
    `refused`; `user` as the index knows him, or `os:` and the name of an account of this machine;
    `client` the address, or `command-line`; `subject` what it was about: index, files, token.

    Never a secret: texts from outside are quoted, and escaped by the formatters, but shown.
    """
    fields = {
        "action": action,
        "outcome": outcome,
        "user": user or "-",
        "client": client,
        **subject,
    }
    known = {key: value for key, value in fields.items() if key not in ("action", "outcome")}
    about = " ".join(f"{key}={_word(value)}" for key, value in known.items())
    logger.info("%s %s %s", action, outcome, about, extra={"fields": fields})


def _word(value: str) -> str:
    """As one word: what somebody typed must not look like a value of another key."""
    return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)
