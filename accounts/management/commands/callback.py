from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.http.request import validate_host
from django.urls import reverse

from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.upstream import configured
from accounts.upstream.errors import UpstreamError
from accounts.upstream.responses import web_address


class Command(BaseCommand):
    help = (
        "Sets the address for WKTeam callbacks to this portal, or clears it. A developer account has one such "
        "address: a system that used it before gets no more callbacks."
    )

    def add_arguments(self, parser) -> None:
        either = parser.add_mutually_exclusive_group(required=True)
        either.add_argument("--set", action="store_true", help="send callbacks to this portal")
        either.add_argument("--clear", action="store_true", help="send no callbacks")
        parser.add_argument(
            "--url",
            default="",
            metavar="ADDRESS",
            help="address of this portal as WKTeam reaches it (default: WK_PUBLIC_URL)",
        )

    def handle(self, **options) -> None:
        if options["clear"] and options["url"]:
            raise CommandError("--url cannot be used with --clear.")
        path = reverse("callback", args=[settings.WK_CALLBACK_SECRET or "-"])
        base = "" if options["clear"] else base_address(options["url"])
        try:
            if base:
                configured.client().set_callback(base + path)
            else:
                configured.client().clear_callback()
        except UpstreamError as error:
            words = f": {error.text}" if error.text else ""
            raise CommandError(f"WKTeam did not accept it ({type(error).__name__}{words}).") from None
        audit.record(AuditKind.CHANGED, name="WKTeam callbacks", detail="set" if base else "cleared")
        shown = base + reverse("callback", args=["…"])
        self.stdout.write(f"WKTeam sends callbacks to {shown}." if base else "WKTeam sends no callbacks.")


def base_address(given: str) -> str:
    base = (given or settings.WK_PUBLIC_URL).rstrip("/")
    if not base:
        raise CommandError(
            "WK_PUBLIC_URL is not set. It is the address at which WKTeam reaches this portal, such as "
            "https://portal.example.com; set it, or pass it as --url."
        )
    if not settings.WK_CALLBACK_SECRET:
        raise CommandError(
            "WK_CALLBACK_SECRET is not set, so no callback would be accepted. Set a long random text of letters and "
            "digits."
        )
    if not web_address(base) or urlsplit(base).query or urlsplit(base).fragment:
        raise CommandError(f"{base} is not an address; it must look like https://portal.example.com.")
    host = urlsplit(base).hostname or ""
    if not validate_host(f"[{host}]" if ":" in host else host, settings.ALLOWED_HOSTS):
        raise CommandError(
            f"{host} is not in ALLOWED_HOSTS: every callback would be refused. Add it there first."
        )
    return base
