"""The company's OpenID Connect provider: where its pages are, and what its answers prove."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import requests
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.core.cache import cache
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from accounts.web.signing_in import provider_people
from accounts.web.signing_in.provider_people import Refused

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 8
# Where the pages are is asked again after so long.
KNOWN_SECONDS = 600
CLOCKS_DIFFER_SECONDS = 30
# With a key that only the provider has. Its algorithms with the client's secret, and `none`, prove less.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
NEEDED = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")


@contextmanager
def refusing_what_is_wrong() -> Iterator[None]:
    """Raise Refused for each fault of the provider, of the network, and of what a browser brings back."""
    try:
        yield
    except requests.RequestException as error:
        status = getattr(error.response, "status_code", 0)
        is_down = not isinstance(error, ValueError) and not 400 <= status < 500
        log.warning("the sign-in provider: %s: %s", type(error).__name__, error)
        raise Refused("down" if is_down else "unusable") from None
    except (SuspiciousOperation, jwt.PyJWTError, LookupError, TypeError, ValueError, AttributeError) as error:
        log.warning("an answer of the sign-in provider is of no use: %s: %s", type(error).__name__, error)
        raise Refused("unusable") from None


def endpoints() -> dict[str, Any]:
    """Return the provider's description of itself. Raises RequestException, ValueError."""
    key = f"oidc-{settings.OIDC_ISSUER}"
    found = cache.get(key)
    if found is None:
        address = f"{settings.OIDC_ISSUER}/.well-known/openid-configuration"
        answer = requests.get(address, timeout=TIMEOUT_SECONDS, verify=settings.OIDC_CA_BUNDLE or True)
        answer.raise_for_status()
        found = answer.json()
        if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in NEEDED):
            raise ValueError("its description names too few addresses")
        if found["issuer"].rstrip("/") != settings.OIDC_ISSUER:
            raise ValueError("its description is of another issuer")
        cache.set(key, found, KNOWN_SECONDS)
    return found


def setting(name: str, *default) -> Any:
    """Return a setting of mozilla-django-oidc."""
    ours = {
        "OIDC_RP_CLIENT_ID": settings.OIDC_CLIENT_ID,
        "OIDC_RP_CLIENT_SECRET": settings.OIDC_CLIENT_SECRET,
        "OIDC_RP_SCOPES": " ".join(settings.OIDC_SCOPES),
        "OIDC_USE_PKCE": True,
        "OIDC_USE_NONCE": True,
        "OIDC_TIMEOUT": TIMEOUT_SECONDS,
        "OIDC_VERIFY_SSL": settings.OIDC_CA_BUNDLE or True,
        "OIDC_AUTHENTICATION_CALLBACK_URL": "provider_callback",
        "OIDC_STORE_ID_TOKEN": True,  # names the session that the provider ends at a sign-out
    }
    addresses = {
        "OIDC_OP_AUTHORIZATION_ENDPOINT": "authorization_endpoint",
        "OIDC_OP_TOKEN_ENDPOINT": "token_endpoint",
        "OIDC_OP_JWKS_ENDPOINT": "jwks_uri",
        "OIDC_OP_USER_ENDPOINT": "userinfo_endpoint",
    }
    if name in addresses:
        return endpoints().get(addresses[name])
    return ours[name] if name in ours else getattr(settings, name, *default)


class Backend(OIDCAuthenticationBackend):
    """Signs in the person whom the provider names."""

    get_settings = staticmethod(setting)
    # Of a locked person there is none.
    get_user = ModelBackend.get_user

    def __init__(self):
        """Ask nothing: Django makes a backend for each sign-in with a password, and for each check of a right, too."""

    OIDC_RP_CLIENT_ID = property(lambda self: settings.OIDC_CLIENT_ID)
    OIDC_RP_CLIENT_SECRET = property(lambda self: settings.OIDC_CLIENT_SECRET)
    OIDC_OP_TOKEN_ENDPOINT = property(lambda self: setting("OIDC_OP_TOKEN_ENDPOINT"))
    OIDC_OP_JWKS_ENDPOINT = property(lambda self: setting("OIDC_OP_JWKS_ENDPOINT"))
    OIDC_OP_USER_ENDPOINT = property(lambda self: setting("OIDC_OP_USER_ENDPOINT"))

    def authenticate(self, request: HttpRequest, *, nonce: str, code_verifier: str):
        """Take no other credentials: Django asks each backend that does about every name and password."""
        return super().authenticate(request, nonce=nonce, code_verifier=code_verifier)

    def verify_token(self, token: str, **kwargs) -> dict[str, Any]:
        """Return the claims of an ID token: of this provider, for us, now, and for the sign-in that was begun here."""
        key = self.retrieve_matching_jwk(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=settings.OIDC_CLIENT_ID,
            issuer=endpoints()["issuer"],
            leeway=CLOCKS_DIFFER_SECONDS,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )
        if not constant_time_compare(claims.get("nonce") or "", kwargs.get("nonce") or "-"):
            raise ValueError("another nonce")
        is_for_others = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", "" if is_for_others else settings.OIDC_CLIENT_ID) != settings.OIDC_CLIENT_ID:
            raise ValueError("for another party")
        return claims

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Return all claims. Those of the token, which is signed, win."""
        if not self.OIDC_OP_USER_ENDPOINT:
            return payload
        more = super().get_userinfo(access_token, id_token, payload)
        if more.get("sub") != payload["sub"]:
            raise ValueError("of another person")
        return more | payload

    def get_or_create_user(self, access_token: str, id_token: str, payload: dict[str, Any]):
        claims = self.get_userinfo(access_token, id_token, payload)
        return provider_people.person_of(claims, endpoints()["issuer"], self.request)
