"""Stores: where bytes and upstream answers are kept on disk, and the index beside them."""
