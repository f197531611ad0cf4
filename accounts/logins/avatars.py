"""Account avatars: fetched once for each address that WKTeam gives, and re-encoded as PNG."""

import logging
from contextlib import suppress

from django.conf import settings
from django.db import IntegrityError

from accounts.lib import db_errors, images
from accounts.models import Account, Avatar
from accounts.upstream import configured
from accounts.upstream.errors import UpstreamError

log = logging.getLogger(__name__)


def fetch(account_id: int) -> bool:
    """Fetch and store the account's avatar unless the picture of its current address is stored.

    Returns whether a picture was stored. Upstream errors, forbidden hosts and unreadable pictures are logged
    and return False. Releases the database connection before the outside call.
    """
    account = Account.objects.filter(pk=account_id).exclude(avatar_url="").first()
    if account is None or Avatar.objects.filter(pk=account.pk, source_url=account.avatar_url).exists():
        return False
    db_errors.release_connection()
    try:
        png = images.avatar(configured.client().fetch_picture(account.avatar_url, settings.WK_AVATAR_HOSTS))
    except (UpstreamError, images.NoPicture) as error:
        log.info("no avatar for account %s: %s", account_id, type(error).__name__)
        return False
    known = {"png": png, "source_url": account.avatar_url}
    with suppress(IntegrityError):  # the account was deleted meanwhile
        Avatar.objects.update_or_create(account=account, defaults=known)
        return True
    return False
