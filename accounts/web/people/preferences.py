"""Language, theme and browser notifications of a person. The row is the choice, cookies are the copy of each browser.

Pages read the cookies only: no query, and pages without a sign-in have the theme too. Signing in makes the copy.
"""

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts.models import Preferences
from accounts.models.operators.preferences import Theme

THEME_COOKIE, NOTIFICATIONS_COOKIE = "wkportal_theme", "wkportal_notifications"

NOTIFICATIONS = ("notifications", "sound")  # columns of Preferences


def theme_of(request: HttpRequest) -> str:
    theme = request.COOKIES.get(THEME_COOKIE, "")
    return theme if theme in Theme.values else ""


def notifications_of(request: HttpRequest) -> str:
    """Return what this browser does about news: "notifications", "sound", both with a blank between, or ""."""
    chosen = request.COOKIES.get(NOTIFICATIONS_COOKIE, "").split("-") if request.user.is_authenticated else ()
    return " ".join(kind for kind in NOTIFICATIONS if kind in chosen)


def copy_to_browser(response: HttpResponse, chosen: Preferences) -> None:
    _set(response, settings.LANGUAGE_COOKIE_NAME, chosen.language)
    _set(response, THEME_COOKIE, chosen.theme)
    _set(response, NOTIFICATIONS_COOKIE, "-".join(kind for kind in NOTIFICATIONS if getattr(chosen, kind)))


def sign_in(response: HttpResponse, user) -> None:
    """Give the browser what this person chose. Nothing is left of another person, except a language chosen just now."""
    chosen = Preferences.objects.filter(pk=user.pk).first()
    if chosen is not None:
        copy_to_browser(response, chosen)
    else:
        _set(response, THEME_COOKIE, "")
        _set(response, NOTIFICATIONS_COOKIE, "")


def _set(response: HttpResponse, name: str, value: str) -> None:
    if not value:
        response.delete_cookie(name, samesite="Lax")
        return
    response.set_cookie(
        name,
        value,
        max_age=settings.LANGUAGE_COOKIE_AGE,
        secure=settings.HTTPS,
        httponly=True,
        samesite="Lax",
    )
