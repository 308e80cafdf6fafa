"""Accounts: password files, tokens, and the slowing of those who guess. Nothing here knows HTTP."""
