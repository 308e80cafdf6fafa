"""The laboratory: a fake upstream, the real server, a byte-exact client, real installers."""
