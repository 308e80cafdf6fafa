"""The tests. A package, so that another installed `tests` can never be imported instead."""
