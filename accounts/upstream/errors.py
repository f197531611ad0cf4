"""Errors of upstream calls, named by their meaning."""

import re


class UpstreamError(Exception):
    """A call without a usable answer.

    `code` and `text` are the WKTeam response code and message, where WKTeam gave any. Otherwise `text`
    describes the failure.
    """

    def __init__(self, text: str = "", code: str = ""):
        super().__init__(text)
        self.text = text
        self.code = code


class Unreachable(UpstreamError):
    """The request was not sent: name not found, connection refused, or no connection in time."""


class CertificateRefused(Unreachable):
    """The TLS certificate of the host is not trusted, so nothing was sent."""


class OutcomeUnknown(UpstreamError):
    """The request was sent but no whole answer arrived: whether it took effect is unknown."""


class BadAnswer(UpstreamError):
    """The answer is unusable: no JSON, no envelope, or a success without its required fields."""


class PictureAddress(BadAnswer):
    """WKTeam gives no usable address for a picture; `text` says which part is wrong."""


class PictureHost(BadAnswer):
    """A picture's address, or a redirect, leads to a host that is not allowed; `text` names it."""


class PictureUnavailable(BadAnswer):
    """The host of a picture, named in `text`, does not deliver it now: a later request may succeed."""


class Busy(UpstreamError):
    """WKTeam is too busy: it neither did nor refused what was asked."""


class Refused(UpstreamError):
    """WKTeam understood the request and refused it."""


class SignInRefused(Refused):
    """WKTeam does not accept the Authorization, or the developer account and its password."""


class DeveloperFrozen(Refused):
    """`/member/login` answers status 1: the developer account is frozen."""


class DeveloperExpired(Refused):
    """`/member/login` answers status 2: the developer account has expired."""


class LineDown(Refused):
    """`/iPadLogin` answers that the chosen proxy does not work."""


def ran_out_of_time(error: UpstreamError) -> bool:
    """Return whether the call ended at its own deadline, not by a failure."""
    return isinstance(error, OutcomeUnknown) and error.text == "out of time"


def kind(error: UpstreamError) -> str:
    """Return the name of the error's meaning, such as "unreachable", for metrics."""
    return (
        "timeout" if ran_out_of_time(error) else re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    )
