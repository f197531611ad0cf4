"""Reader of the answer of `/member/login`: the Authorization, and what some servers tell of the developer account."""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from accounts.upstream.errors import (
    BadAnswer,
    Busy,
    DeveloperExpired,
    DeveloperFrozen,
    Refused,
    SignInRefused,
)
from accounts.upstream.responses import BUSY, Answer, code_text, reason, succeeded

CREDENTIALS = re.compile("密码|用户名|账号|帐号|password|user ?name|account", re.IGNORECASE)
SEATS_LIMIT = 2**31 - 1  # the largest number that the column takes
FIRST_END, LAST_END = 2015, 2200


@dataclass(frozen=True, slots=True)
class SignIn:
    """The Authorization and, as far as the answer tells them, the developer account's seats and its end.

    Only the first generation of WKTeam's docs has `availableNumber` and `overdueTime` (in milliseconds).
    """

    authorization: str = field(repr=False)
    seats: int | None = None
    ends_at: datetime | None = None


def sign_in(answer: Answer) -> SignIn:
    """Return the Authorization. Raises Busy for a refusal that concerns neither the account nor its password."""
    try:
        succeeded(answer)
    except Refused as refused:
        if BUSY.search(refused.text) and not CREDENTIALS.search(refused.text):
            raise Busy(refused.text, refused.code) from None
        raise SignInRefused(refused.text, refused.code) from None
    authorization = answer.fields.get("Authorization")
    blocked = {"1": DeveloperFrozen, "2": DeveloperExpired}.get(code_text(answer.fields.get("status")))
    if blocked:
        raise blocked(reason(answer.text), answer.code)
    if not isinstance(authorization, str) or not re.fullmatch(r"[ -~]{1,4000}", authorization.strip()):
        raise BadAnswer("a sign-in without Authorization", answer.code)
    seats = _number(answer.fields.get("availableNumber"))
    # Without a single seat no account could log in, so 0 tells nothing.
    usable = seats is not None and 0 < seats <= SEATS_LIMIT
    return SignIn(authorization.strip(), seats if usable else None, _moment(answer.fields.get("overdueTime")))


def _number(value: object) -> int | None:
    text = code_text(value)
    return int(text) if text.isascii() and text.isdigit() else None


def _moment(milliseconds: object) -> datetime | None:
    """Return the time of a Unix timestamp in milliseconds; None for one that is no likely end of a contract."""
    number = _number(milliseconds)
    with suppress(OverflowError):
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number or 0)
        if FIRST_END <= moment.year <= LAST_END:
            return moment
    return None
