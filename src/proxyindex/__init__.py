"""proxyindex: a private package index that falls through to PyPI and keeps what it fetched."""

TYPE_CHECKING = False  # as in `typing`, which takes a while to import

__version__: str

if not TYPE_CHECKING:

    def __getattr__(name: str) -> str:
        """The version, once somebody asks: until `__main__` is reached Ctrl-C is a traceback."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version  # noqa: PLC0415

        return version("proxyindex")
