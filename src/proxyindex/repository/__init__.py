"""Repositories: how project pages are found, combined and judged."""
