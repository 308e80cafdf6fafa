"""Why a connection failed, in the system's words: never in a library's, which may hold URLs."""

import os
import socket
import ssl


def reason(problem: BaseException) -> str:
    """In brackets, behind a phrase; nothing if the system does not say it."""
    cause: BaseException | None = problem
    while cause is not None:
        match cause:
            case ssl.SSLCertVerificationError(verify_message=str(said)):
                return f" (its certificate is not trusted: {said})"
            case ssl.SSLError(reason=str(said)):
                return f" (TLS: {said})"
            case socket.gaierror(strerror=str(said)):
                return f" ({said})"
            case OSError(errno=int(number)):
                return f" ({os.strerror(number)})"
        cause = cause.__cause__ or cause.__context__
    return ""
