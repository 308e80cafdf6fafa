"""Hostile input for every parser: targets, a corpus of seeds and old crashers, and the runner."""
