"""Who may do what, of settings: identities for all indexes, rights for each."""

from proxyindex.access import Action, Grant, Rights
from proxyindex.settings import IndexSettings, Settings
from proxyindex.users.attempts import Attempts
from proxyindex.users.hashes import PasswordHashes
from proxyindex.users.htpasswd import Htpasswd
from proxyindex.users.tokens import TokenFile
from proxyindex.web.identity import Front, Identities


def identities(settings: Settings) -> Identities:
    """What makes identities of requests; needs an event loop."""
    members: dict[str, set[str]] = {}
    for group, users in settings.groups:
        for user in users:
            members.setdefault(user, set()).add(group)
    header = settings.remote_user_header
    return Identities(
        Htpasswd(settings.htpasswd, PasswordHashes()),
        TokenFile(settings.tokens) if settings.tokens else None,
        {user: frozenset(groups) for user, groups in members.items()},
        Front(header.lower().encode(), settings.remote_user_from) if header else None,
        Attempts(),
    )


def rights(index: IndexSettings) -> Rights:
    """What is granted on an index."""
    granted = {action: getattr(index, action.value) for action in Action}
    parsed = {action: [Grant.parse(text) for text in texts] for action, texts in granted.items()}
    return Rights(index.name, parsed)
