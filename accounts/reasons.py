"""Why a login ended: a closed list of codes, each with what happened and what to do next.

The attempt also stores the WKTeam message. Pages show it in addition to the reason, never instead of it.
"""

from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Reason(models.TextChoices):
    NOT_SCANNED = "not_scanned", _("QR code not scanned in time")
    NO_ANSWER = "no_answer", _("No result in time")
    NO_WORKER = "no_worker", _("No worker available")
    CANCELLED = "cancelled", _("Cancelled in the portal")
    DECLINED = "declined", _("Declined on the phone")
    WRONG_ACCOUNT = "wrong_account", _("Scanned by another account")
    NEW_DEVICE_CHECK = "new_device_check", _("New-device verification required")
    CODE_WRONG = "code_wrong", _("Too many wrong verification codes")
    LINE_DOWN = "line_down", _("Proxy unavailable")
    OWN_PROXY = "own_proxy", _("Own proxy can’t be read")
    REFUSED = "refused", _("Refused by WKTeam")
    UNREACHABLE = "unreachable", _("Can’t reach WKTeam")
    CERTIFICATE = "certificate", _("WKTeam certificate not trusted")
    OUTCOME_UNKNOWN = "outcome_unknown", _("WKTeam response lost")
    BAD_ANSWER = "bad_answer", _("Unreadable WKTeam response")
    SIGN_IN_REFUSED = "sign_in_refused", _("WKTeam authorization failed")
    DEVELOPER_FROZEN = "developer_frozen", _("Developer account frozen")
    DEVELOPER_EXPIRED = "developer_expired", _("Developer account expired")
    QR_HOST = "qr_host", _("QR code image on an unknown host")
    QR_HOST_DOWN = "qr_host_down", _("QR code image not available")
    QR_ADDRESS = "qr_address", _("Unusable QR code address")
    QR_PICTURE = "qr_picture", _("Unreadable QR code image")
    INTERRUPTED = "interrupted", _("Interrupted")
    NOT_TAPPED = "not_tapped", _("Not confirmed on the phone in time")
    PROMPT_DECLINED = "prompt_declined", _("Phone prompt declined")
    PROMPT_REFUSED = "prompt_refused", _("Phone prompt not possible now")
    NO_SEAT = "no_seat", _("Phone prompt not sent: no free seat at WKTeam")
    # Of a presence check only.
    NOT_SAVED = "not_saved", _("Result not saved")


ADVICE: dict[str, Promise] = {
    Reason.NOT_SCANNED: _("Have the phone ready, then get a new QR code."),
    Reason.NO_ANSWER: _(
        "If the phone confirmed the login, the account comes online automatically. Otherwise get a "
        "new QR code."
    ),
    Reason.NO_WORKER: _(
        "The worker that waits for the phone is not running. Contact an admin, then get a new QR code."
    ),
    Reason.CANCELLED: _("Get a new QR code when you are ready."),
    Reason.DECLINED: _("Someone tapped “Cancel” on the phone. Get a new QR code, scan it and tap “Log in”."),
    Reason.WRONG_ACCOUNT: _("Nothing was overwritten. Scan a new QR code with this account’s phone."),
    Reason.NEW_DEVICE_CHECK: _(
        "Get a new QR code with device type Mac, or complete the verification on the phone and try again."
    ),
    Reason.CODE_WRONG: _("Get a new QR code, then enter the verification code shown on the phone."),
    Reason.LINE_DOWN: _(
        "The selected proxy is not responding. Choose another proxy in the same region and try again."
    ),
    Reason.OWN_PROXY: _(
        "The own proxy of this account was encrypted with a key that is missing now, so no QR code was requested. "
        "Enter it again on the account’s edit page, or have an admin restore the key in FIELD_KEYS."
    ),
    Reason.REFUSED: _(
        "Follow the WKTeam message below. If it needs nothing from you, try again in a minute."
    ),
    Reason.UNREACHABLE: _(
        "WKTeam is not responding. Try again in a minute. If it keeps happening, contact an admin."
    ),
    Reason.CERTIFICATE: _(
        "The TLS certificate of WKTeam’s address is not trusted. An admin must add its certificate authority "
        "to WK_CA_BUNDLE, or have the certificate renewed."
    ),
    Reason.OUTCOME_UNKNOWN: _(
        "The connection broke after the QR code was requested. The request was not repeated. Get a "
        "new QR code."
    ),
    Reason.BAD_ANSWER: _(
        "WKTeam sent an unreadable response. Try again in a minute. If it keeps happening, contact an admin."
    ),
    Reason.SIGN_IN_REFUSED: _(
        "WKTeam rejected our Authorization. An admin must check WK_ACCOUNT and WK_PASSWORD, or "
        "WK_AUTHORIZATION."
    ),
    Reason.DEVELOPER_FROZEN: _(
        "WKTeam froze the developer account. An admin must contact WKTeam. No account can log in until then."
    ),
    Reason.DEVELOPER_EXPIRED: _(
        "The developer account has expired. An admin must renew it with WKTeam. No account can log "
        "in until then."
    ),
    Reason.QR_HOST: _("An admin must add the image host to WK_QR_HOSTS."),
    Reason.QR_HOST_DOWN: _(
        "WKTeam created the QR code, but the host of its image did not deliver it. Get a new QR code. If it "
        "keeps happening, contact an admin."
    ),
    Reason.QR_ADDRESS: _(
        "WKTeam sent an address for the QR code image that the portal can’t use. Get a new QR code. If it "
        "keeps happening, contact an admin."
    ),
    Reason.QR_PICTURE: _("WKTeam returned no usable QR code image. Get a new QR code."),
    Reason.INTERRUPTED: _("The process that requested the QR code stopped. Get a new QR code."),
    Reason.NOT_TAPPED: _(
        "Unlock the phone and open WeChat, then send another phone prompt or get a QR code."
    ),
    Reason.PROMPT_DECLINED: _(
        "Someone tapped “Cancel” on the phone. Check with its owner, then send another phone prompt "
        "or get a QR code."
    ),
    Reason.PROMPT_REFUSED: _(
        "WKTeam couldn’t log this account in with a phone prompt. Get a QR code and scan it."
    ),
    Reason.NO_SEAT: _(
        "Accounts that are online and logins in progress take all seats of the developer account. Log out an "
        "account that isn’t needed, or have an admin buy seats from WKTeam, then try again."
    ),
    Reason.NOT_SAVED: _(
        "The portal could not save who is online. It tries again at the next presence check. If it keeps "
        "happening, contact an admin."
    ),
}


def advice(code: str) -> Promise | str:
    return ADVICE.get(code, "")
