"""The audit log: a line for each change and each refused log-in. Who, what, from where, outcome."""

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

logger = logging.getLogger("proxyindex.audit")

# what is done to files of an index
Action = Literal["upload", "delete", "yank", "unyank", "push"]

_BARE = re.compile(r"[^\s\"'=]+")


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes files of an index, and how: known before it is done, and noted afterwards.

    `user` and `client` are as `note` has them; `source` is the index that files are pushed from.
    """

    action: Action
    user: str | None
    client: str
    index: str
    sha256: str | None = None
    source: str | None = None
    sudo: str | None = None

    def note(self, files: Iterable[str], outcome: Literal["done", "finished"] = "done") -> None:
        """One line for all files of these names. `finished`: what somebody else had begun."""
        more = {"sha256": self.sha256, "source": self.source, "sudo": self.sudo}
        subject = {"index": self.index, "files": " ".join(files)}
        subject |= {key: value for key, value in more.items() if value is not None}
        note(self.action, outcome, user=self.user, client=self.client, **subject)


def note(action: str, outcome: str, *, user: str | None, client: str, **subject: str) -> None:
    """One line. `action` as a phrase, such as `upload`; `outcome` a word, such as `done` or
    `refused`; `user` as the index knows him, or `os:` and the name of an account of this machine;
    `client` the address, or `command-line`; `subject` what it was about: index, files, token.

    Never a secret: texts from outside are quoted, and escaped by the formatters, but shown.
    """
    known = {"user": user or "-", "client": client, **subject}
    about = " ".join(f"{key}={_word(value)}" for key, value in known.items())
    fields = {"action": action, "outcome": outcome, **known}
    logger.info("%s %s %s", action, outcome, about, extra={"fields": fields})


def _word(value: str) -> str:
    """As one word: what somebody typed must not look like a value of another key."""
    return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)
