"""Checks what the configuration says of users."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from proxyindex.access import LOGGED_IN, Action, Grant
from proxyindex.config.layers import Values
from proxyindex.config.mistakes import Mistakes, Place, nothing_called
from proxyindex.settings import IndexSettings

_CHANGING = (Action.UPLOAD.value, Action.DELETE.value, Action.YANK.value)


def check(values: Values, mistakes: Mistakes) -> None:
    """Files that are not there, a front nobody is, groups nobody has made."""
    for path in values["htpasswd"] or ():
        if not os.path.isfile(path):
            remedy = f"make it with `proxyindex user add NAME --htpasswd {path}`"
            mistakes.absent(values.place("htpasswd"), path, "a file", remedy)
    header, peers = values["remote_user_header"], values["remote_user_from"]
    if header and not peers:
        mistakes.say(values.place("remote_user_header"), "needs remote-user-from beside it")
    if peers and not header:
        mistakes.say(values.place("remote_user_from"), "needs remote-user-header beside it")
    for action in Action:
        _check_grants(values[action.value] or (), values.place(action.value), values, mistakes)
    if not values["index"] and not values["folders"] and mistakes.is_ready:
        for key in _CHANGING:
            _check_folder(values[key], values.place(key), mistakes)


def check_indexes(tables: Iterable[IndexSettings], values: Values, mistakes: Mistakes) -> None:
    """The same of the tables of indexes."""
    for table in tables:
        place = values.place("index").inside(table.name)
        for action in Action:
            grants = getattr(table, action.value)
            _check_grants(grants, place.inside(action.value), values, mistakes)
        for key in _CHANGING if not table.folders else ():
            _check_folder(getattr(table, key), place.inside(key), mistakes)


def _check_grants(grants: Iterable[str], place: Place, values: Values, mistakes: Mistakes) -> None:
    """Groups that grants speak of are in the table of groups."""
    known = [name for name, _ in values["groups"] or ()]
    for group in _groups_of(grants):
        if group not in known:
            mistakes.say(place, nothing_called(group, known, "group"))


def _check_folder(grants: object, place: Place, mistakes: Mistakes) -> None:
    """Grants of an index without a folder: those of bases are not its own to be changed."""
    if grants:
        mistakes.say(place, "needs folders beside it: the first of them is what would be changed")


def _groups_of(grants: Iterable[str]) -> Iterator[str]:
    for text in grants:
        who = Grant.parse(text).who
        if who.startswith("@") and who != LOGGED_IN:
            yield who[1:]
