"""Checks what the configuration grants."""

from __future__ import annotations

from proxyindex.access import CHANGING, LOGGED_IN, Action, Grant
from proxyindex.config.layers import Values
from proxyindex.config.mistakes import Mistakes, nothing_called


def check_groups(index: Values, values: Values, mistakes: Mistakes) -> None:
    """Groups that grants of an index speak of are in the table of groups, among all `values`."""
    known = [name for name, _ in values["groups"] or ()]
    for action in Action:
        for who in (Grant.parse(text).who for text in index[action.value] or ()):
            if who.startswith("@") and who != LOGGED_IN and who[1:] not in known:
                mistakes.say(index.place(action.value), nothing_called(who[1:], known, "group"))


def check_folders(index: Values, mistakes: Mistakes) -> None:
    """An index in which something may be changed has a folder: those of bases are not its own."""
    for action in CHANGING:
        if index[action.value] and not index["folders"]:
            problem = "needs folders beside it: the first of them is what would be changed"
            mistakes.say(index.place(action.value), problem)
