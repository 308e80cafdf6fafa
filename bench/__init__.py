"""Measurements of proxyindex beside its rivals and its limits; `python -m bench --help`.

Not part of the tests: what is timed depends on the machine, so only ratios of one run count.
"""
