"""The sessions of a person: when and where each was begun and last used, and how it is ended.

A session ends SESSION_COOKIE_AGE after its sign-in, or after SESSION_IDLE_HOURS in which nobody used it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.decorators import sync_only_middleware
from django.utils.translation import gettext as _

from accounts.models import SignIn

WRITTEN_EVERY = timedelta(minutes=5)
# Of the session's data: Unix times.
_SIGNED_IN_AT, _SEEN_AT = "signed_in_at", "seen_at"
# What a User-Agent has, and the name that people know. The first that fits: most of them name others too.
_BROWSERS = {
    "MicroMessenger": "WeChat",
    "Edg": "Edge",
    "OPR/": "Opera",
    "Firefox/": "Firefox",
    "FxiOS": "Firefox",
    "CriOS": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
_SYSTEMS = {
    "Windows": "Windows",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "CrOS": "ChromeOS",
    "Mac OS X": "macOS",
    "Linux": "Linux",
}


def browser_of(user_agent: str) -> str:
    """Return the browser and its system in words."""
    browser = next((name for part, name in _BROWSERS.items() if part in user_agent), "")
    system = next((name for part, name in _SYSTEMS.items() if part in user_agent), "")
    if browser and system:
        return _("{browser} on {system}").format(browser=browser, system=system)
    return browser or system or _("Unknown browser")


@sync_only_middleware
def note_sign_ins(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Keep the row of the session that the request used, if somebody is signed in."""

    def middleware(request: HttpRequest) -> HttpResponse:
        before = request.session.session_key
        response = get_response(request)
        # After an error of the server, the session may not have been read.
        if response.status_code < 500 and request.session.accessed and SESSION_KEY in request.session:
            note(request, before)
        return response

    return middleware


def _is_used_by_person(request: HttpRequest) -> bool:
    """Return whether the request opens a page or changes something. What an open page asks by itself doesn't count."""
    if request.method == "POST":
        return True
    by_script = request.htmx or request.headers.get("Accept") == "text/event-stream"
    return not by_script and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"


def note(request: HttpRequest, before: str | None = None) -> None:
    """Write the row, at most once in WRITTEN_EVERY. `before`: the session's key when the request came."""
    session, now = request.session, timezone.now()
    moved = before is not None and before != session.session_key
    is_new = moved or _SIGNED_IN_AT not in session
    if not is_new and now.timestamp() - session[_SEEN_AT] < WRITTEN_EVERY.total_seconds():
        return
    if not (is_new or _is_used_by_person(request)):
        return
    if session.session_key is None:
        session.save()
    user = session[SESSION_KEY]
    if moved:  # another password, or signed in again
        SignIn.objects.filter(session_key=before, user=user).update(session_key=session.session_key)
    if is_new:
        session[_SIGNED_IN_AT] = int(now.timestamp())
    session[_SEEN_AT] = int(now.timestamp())
    session.set_expiry(_end_of(session[_SIGNED_IN_AT], now))
    seen = {
        "seen_at": now,
        "ip_address": request.META.get("REMOTE_ADDR") or None,
        "user_agent": request.headers.get("User-Agent", "")[:255],
    }
    SignIn.objects.update_or_create(
        session_key=session.session_key,
        defaults=seen,
        create_defaults={"user_id": user, "signed_in_at": now, **seen},
    )


def _end_of(signed_in_at: int, now: datetime) -> datetime:
    end = datetime.fromtimestamp(signed_in_at + settings.SESSION_COOKIE_AGE, tz=now.tzinfo)
    idle = timedelta(hours=settings.SESSION_IDLE_HOURS)
    return min(end, now + idle) if idle else end


def alive(person, this: str) -> list[SignIn]:
    """Return the sign-ins that last, the last used first, each with `browser` and `is_this`."""
    own = SignIn.objects.filter(user=person).order_by("-seen_at")
    some = Session.objects.filter(expire_date__gt=timezone.now(), session_key__in=own.values("session_key"))
    # Of a password of before, a session stays until its browser comes and is refused.
    valid = {person.get_session_auth_hash(), *person.get_session_auth_fallback_hash()}
    keys = {session.session_key for session in some if session.get_decoded().get(HASH_SESSION_KEY) in valid}
    found = list(own.filter(session_key__in=keys))
    for sign_in in found:
        sign_in.browser = browser_of(sign_in.user_agent)
        sign_in.is_this = sign_in.session_key == this
    return found


def end(person, sign_in_id: str, but: str) -> bool:
    """End the session of one sign-in, unless its key is `but`. Return False if the person has no such session."""
    known = sign_in_id.isdecimal() and len(sign_in_id) < 19
    own = SignIn.objects.filter(user=person, pk=sign_in_id if known else None).exclude(session_key=but)
    return bool(Session.objects.filter(session_key__in=own.values("session_key")).delete()[0])


def end_all(person, but: str | None = None) -> None:
    """End every session of the person, also one that has no row. `but`: the key of one that goes on."""
    own = [
        session.session_key
        for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator()
        if session.session_key != but and session.get_decoded().get(SESSION_KEY) == str(person.pk)
    ]
    Session.objects.filter(session_key__in=own).delete()
