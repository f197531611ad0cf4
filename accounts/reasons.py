"""Why a login ended as it did: a closed list of codes, each with what happened and what to do next.

The upstream's own words are kept beside these on the attempt and shown with them, never instead.
"""

from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Reason(models.TextChoices):
    NOT_SCANNED = "not_scanned", _("Nobody scanned in time")
    NO_ANSWER = "no_answer", _("No answer in time")
    NO_WORKER = "no_worker", _("No worker took the login")
    CANCELLED = "cancelled", _("Cancelled here")
    DECLINED = "declined", _("Declined on the phone")
    WRONG_ACCOUNT = "wrong_account", _("Another account scanned")
    NEW_DEVICE_CHECK = "new_device_check", _("The phone wants to be checked on a new device")
    CODE_WRONG = "code_wrong", _("Wrong number, too often")
    LINE_DOWN = "line_down", _("The line is down")
    REFUSED = "refused", _("Refused by the upstream")
    UNREACHABLE = "unreachable", _("Upstream not reachable")
    OUTCOME_UNKNOWN = "outcome_unknown", _("The answer got lost")
    BAD_ANSWER = "bad_answer", _("Unreadable answer")
    SIGN_IN_REFUSED = "sign_in_refused", _("Our sign-in is refused")
    DEVELOPER_FROZEN = "developer_frozen", _("Developer account frozen")
    DEVELOPER_EXPIRED = "developer_expired", _("Developer account expired")
    QR_HOST = "qr_host", _("QR picture on an unknown host")
    QR_PICTURE = "qr_picture", _("QR picture not readable")
    INTERRUPTED = "interrupted", _("Interrupted")
    NOT_TAPPED = "not_tapped", _("Nobody tapped the prompt in time")
    PROMPT_DECLINED = "prompt_declined", _("The prompt was declined on the phone")
    PROMPT_REFUSED = "prompt_refused", _("A prompt is not possible now")


ADVICE: dict[str, Promise] = {
    Reason.NOT_SCANNED: _("Have the phone ready, then ask for a new code."),
    Reason.NO_ANSWER: _(
        "If the phone did confirm, the account comes online here by itself; otherwise ask for a new code."
    ),
    Reason.NO_WORKER: _(
        "The process that waits for the phone is not running. Tell an admin, then ask for a new code."
    ),
    Reason.CANCELLED: _("Ask for a new code when you are ready."),
    Reason.DECLINED: _("Somebody tapped “Cancel” on the phone. Ask for a new code and tap “Log in” on it."),
    Reason.WRONG_ACCOUNT: _(
        "Nothing here was overwritten. Scan a new code with the phone that belongs to this account."
    ),
    Reason.NEW_DEVICE_CHECK: _(
        "Ask for a new code as a Mac device, or pass the check on the phone and try again."
    ),
    Reason.CODE_WRONG: _("Ask for a new code, and type the number that the phone shows then."),
    Reason.LINE_DOWN: _(
        "The chosen line does not answer. Choose another line of the same region and try again."
    ),
    Reason.REFUSED: _("Read the upstream's words below. If they ask for nothing, try again in a minute."),
    Reason.UNREACHABLE: _(
        "The upstream's address does not answer. Try again in a minute; if it stays so, tell an admin."
    ),
    Reason.OUTCOME_UNKNOWN: _(
        "The connection broke after the code was asked for. It was not asked for twice; ask for a new code."
    ),
    Reason.BAD_ANSWER: _(
        "The upstream sent something that is no answer. Try again in a minute; if it stays so, tell an admin."
    ),
    Reason.SIGN_IN_REFUSED: _(
        "The upstream refuses our Authorization. An admin has to check WK_ACCOUNT and WK_PASSWORD, or WK_AUTHORIZATION."
    ),
    Reason.DEVELOPER_FROZEN: _(
        "The upstream froze the developer account. An admin has to talk to the upstream; no login works until then."
    ),
    Reason.DEVELOPER_EXPIRED: _(
        "The developer account has run out. An admin has to renew it with the upstream; no login works until then."
    ),
    Reason.QR_HOST: _("An admin has to add the picture's host to WK_QR_HOSTS."),
    Reason.QR_PICTURE: _("The upstream sent no usable picture. Ask for a new code."),
    Reason.INTERRUPTED: _("The process that asked for the code stopped. Ask for a new code."),
    Reason.NOT_TAPPED: _(
        "Have the phone ready, unlocked and with WeChat open, then send another prompt; or ask for a code to scan."
    ),
    Reason.PROMPT_DECLINED: _(
        "Somebody tapped “Cancel” on the phone. Ask its owner, then send another prompt or ask for a code to scan."
    ),
    Reason.PROMPT_REFUSED: _(
        "The upstream could not log this account in by a prompt. Ask for a code and scan it."
    ),
}


def advice(code: str) -> Promise | str:
    return ADVICE.get(code, "")
