"""Language and theme of a person. The row is the person's choice, cookies are the copy that each browser has.

Pages read the cookies only, so the choice costs no query, and pages without a sign-in keep it. Signing in copies it.
"""

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts.models import Preferences
from accounts.models.operators.preferences import Theme

THEME_COOKIE = "wkportal_theme"


def theme_of(request: HttpRequest) -> str:
    theme = request.COOKIES.get(THEME_COOKIE, "")
    return theme if theme in Theme.values else ""


def copy_to_browser(response: HttpResponse, chosen: Preferences) -> None:
    _set(response, settings.LANGUAGE_COOKIE_NAME, chosen.language)
    _set(response, THEME_COOKIE, chosen.theme)


def sign_in(response: HttpResponse, user) -> None:
    """Give the browser what this person chose. Nothing is left of another person, except a language chosen just now."""
    chosen = Preferences.objects.filter(pk=user.pk).first()
    if chosen is not None:
        copy_to_browser(response, chosen)
    else:
        _set(response, THEME_COOKIE, "")


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
