"""Files: how a file of a page becomes an open stream of bytes."""
