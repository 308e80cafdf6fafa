"""The `proxyindex` command, also as `python -m proxyindex`."""

import signal


def run() -> None:
    """Import all of it, which takes half a second, and run it."""
    # Meanwhile there is nothing to be put away: Ctrl-C ends the process without a traceback. Where
    # it is ignored, as a script's shell has it for what runs in the background, it stays so.
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from proxyindex.cli import main  # noqa: PLC0415

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


if __name__ == "__main__":
    run()
