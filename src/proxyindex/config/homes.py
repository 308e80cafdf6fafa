"""Where things are kept unless the configuration says where: in the home of the user."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def cache() -> Path | None:
    """The folder of what was fetched; `None` if the user has no home."""
    try:
        return platformdirs.user_cache_path("proxyindex", appauthor=False)
    except RuntimeError:  # neither HOME nor an entry among the system's users
        return None


def tokens() -> Path | None:
    """The file of API tokens; `None` if the user has no home."""
    try:
        return platformdirs.user_data_path("proxyindex", appauthor=False) / "tokens.json"
    except RuntimeError:
        return None
