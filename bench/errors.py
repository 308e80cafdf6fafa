"""Why a cell of the table stays empty; never the end of a run."""


class Unavailable(Exception):
    """A server cannot be installed or started, or does not offer what a workload asks for."""


class WrongAnswer(Unavailable):
    """A server answers, but not what it should: timing it would mean nothing."""
