"""The audit log: a line for each change and each refused log-in. Who, what, from where, outcome."""

import logging

logger = logging.getLogger("proxyindex.audit")


def note(action: str, outcome: str, *, user: str | None, client: str, **subject: str) -> None:
    """One line. `action` as a phrase, such as `upload`; `outcome` a word, such as `done` or
    `refused`; `client` the address; `subject` what it was about: index, project, filename.

    Never a secret: texts from outside are escaped by the formatters, but shown.
    """
    fields = {
        "action": action,
        "outcome": outcome,
        "user": user or "-",
        "client": client,
        **subject,
    }
    about = "".join(f" {key}={value}" for key, value in subject.items())
    line = "%s %s user=%s client=%s%s"
    values = (action, outcome, fields["user"], client, about)
    logger.info(line, *values, extra={"fields": fields})
