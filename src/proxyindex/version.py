"""The version that is installed: not in the package itself, which would look it up before
`__main__` can have Ctrl-C end without a traceback."""

from importlib.metadata import version

__version__ = version("proxyindex")
