"""The client side: distributions of this machine to an index, a folder, or another machine."""
