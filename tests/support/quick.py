"""Asking the express way, as the protocol does."""

from __future__ import annotations

from collections.abc import Sequence

from proxyindex.web.express import Express
from proxyindex.web.given import Asker, Given, Header


def quick_answer(
    express: Express, target: bytes, headers: Sequence[Header], asker: Asker | None = None
) -> Given | None:
    """The remembered answer to a GET that has its body in memory; by nobody in particular if no
    `asker` is named."""
    question = express.asked(target, headers)
    given = None if question is None else express.answer_to(question, asker or Asker())
    return given if given is None or given.part is None else None
