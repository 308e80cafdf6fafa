"""Changing our own folders: uploads, deletions, yanks, promotion from one index to another."""
