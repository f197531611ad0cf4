"""Errors of upstream calls, by meaning."""


class UpstreamError(Exception):
    """A call that brought no usable answer. `code` and `text` are the upstream's own, where it gave any."""

    def __init__(self, text: str = "", code: str = ""):
        super().__init__(text)
        self.text = text
        self.code = code


class Unreachable(UpstreamError):
    """The request did not leave: name not found, connection refused, no connection in time."""


class OutcomeUnknown(UpstreamError):
    """The request left and no whole answer came back, so it may or may not have had its effect."""


class BadAnswer(UpstreamError):
    """An answer came that says nothing: no JSON, no envelope, or a success without what it should hold."""


class Refused(UpstreamError):
    """The upstream understood and said no."""


class SignInRefused(Refused):
    """The Authorization, or the developer's name and password, is not accepted."""


class DeveloperFrozen(Refused):
    """`/member/login` answers status 1: the developer account is frozen."""


class DeveloperExpired(Refused):
    """`/member/login` answers status 2: the developer account has run out."""


class LineDown(Refused):
    """`/iPadLogin` says that the chosen proxy line does not work."""


def ran_out_of_time(error: UpstreamError) -> bool:
    return isinstance(error, OutcomeUnknown) and error.text == "out of time"
