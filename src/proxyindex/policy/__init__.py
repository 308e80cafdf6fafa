"""Policy: pure judgements of names and files, and their order."""
