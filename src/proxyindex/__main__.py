"""`python -m proxyindex` is the `proxyindex` command."""

from proxyindex.cli import main

main()
