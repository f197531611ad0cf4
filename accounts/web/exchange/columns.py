"""The columns of accounts that people write: their heads and values in an export, and how an import reads them."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import time
from functools import partial

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import proxies
from accounts.lib.rows import in_batches
from accounts.models import Account

READ_AT_ONCE = 500
# Field of the account form → its head, as the export writes it.
HEADS = {
    "label": gettext_lazy("Label"),
    "place": gettext_lazy("Place"),
    "wc_id": "wcId",
    "proxy": gettext_lazy("Proxy"),
    "tag_names": gettext_lazy("Tags"),
    "team": gettext_lazy("Team"),
    "keep_online": gettext_lazy("Keep online"),
    "note": gettext_lazy("Note"),
    "policy": gettext_lazy("Recovery policy"),
    "hours_from": gettext_lazy("Prompt hours from"),
    "hours_until": gettext_lazy("Prompt hours until"),
    "time_zone": gettext_lazy("Time zone"),
}


def yes(value: bool) -> str:
    return _("Yes") if value else _("No")


def _proxy_name(account: Account) -> str:
    return proxies.choice(account.proxy)


def read_tag_names(accounts: Iterable[Account]) -> None:
    """Give each account its `tag_names`. Prefetched tags would stay in memory until the next garbage collection."""
    for some in in_batches(accounts, READ_AT_ONCE):
        names = defaultdict(list)
        uses = Account.tags.through.objects.filter(account__in=some).order_by("tag__name")
        for account, name in uses.values_list("account", "tag__name"):
            names[account].append(name)
        for account in some:
            account.tag_names = ", ".join(names[account.pk])


def _time_of_day(at: time | None) -> str:
    return at.strftime("%H:%M") if at else ""


# Field → what the export writes. `tag_names` is no column: see `read_tag_names`.
VALUES: dict[str, Callable[[Account], str]] = {
    "label": lambda account: account.label,
    "place": lambda account: account.place,
    "wc_id": lambda account: account.wc_id or "",
    "proxy": _proxy_name,
    "tag_names": lambda account: account.tag_names,
    "team": lambda account: account.team.name if account.team else "",
    "keep_online": lambda account: yes(account.keep_online),
    "note": lambda account: account.note,
    "policy": lambda account: account.policy.name if account.policy else "",
    "hours_from": lambda account: _time_of_day(account.hours_from),
    "hours_until": lambda account: _time_of_day(account.hours_until),
    "time_zone": lambda account: account.time_zone,
}
# What other tables call them, in the form of `_plain`. The heads of the export are added in both languages.
NAMES = {
    "label": "label name account account_name 名称 账号 账号名称 帐号 名字 门店",
    "place": "place location rack slot rack·slot placeofthephone 位置 手机位置 机架 卡位 槽位",
    "wc_id": "wcid wxid 微信wcid",
    "proxy": "proxy proxycode region line 线路 代理 地区",
    "tag_names": "tags tag labels 标签",
    "team": "team group 团队 小组 部门",
    "keep_online": "keeponline online? recover 保持在线",
    "note": "note notes remark remarks comment 备注 说明",
    "policy": "policy recoverypolicy 恢复策略 策略",
    "hours_from": "hoursfrom prompthoursfrom 允许弹框的时段,从 允许弹框的时段(起)",
    "hours_until": "hoursuntil prompthoursuntil 允许弹框的时段(止)",
    "time_zone": "timezone 时区",
}
KNOWN = {name: field for field, names in NAMES.items() for name in names.replace("_", "").split()}
YES = {"yes", "y", "true", "1", "on", "是", "开", "启用"}
NO = {"no", "n", "false", "0", "off", "否", "关", "停用"}
NO_PROXY = {"none", "no", "无", "没有", "不指定"}


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in folded if not char.isspace() and char not in "_-*:")


def guess(heads: list[str]) -> list[str]:
    """Return for each head the field that it means, "" for none.

    Of two heads that mean the same, the first one counts; of two that are the same, a person has to choose.
    """
    own = {
        _plain(shown): field for field, head in HEADS.items() for shown in _in_every_language(head.__str__)
    }
    found: dict[str, str] = {}
    fields = []
    for head in map(_plain, heads):
        field = own.get(head) or KNOWN.get(head, "")
        fields.append(field if found.setdefault(field, head) == head else "")
    return fields


def _in_every_language(write: Callable[[], str]) -> set[str]:
    """Return how the exports of all people write something."""
    shown = set()
    for code, _name in settings.LANGUAGES:
        with translation.override(code):
            shown.add(write())
    return shown


def yes_or_no(cell: str) -> bool:
    """Raises ValidationError for a word that means neither."""
    word = _plain(cell)
    if word in YES:
        return True
    if word in NO:
        return False
    raise ValidationError(_("Enter “Yes” or “No”."))


def proxy(cell: str, own: int | None) -> int | None:
    """Return the code of a proxy, None for none: by its code, its name, or as the form and the export show both.

    `own`: the proxy that the account has, None for none. Raises ValidationError for a word that means no proxy.
    """
    word = _plain(cell)
    if word in NO_PROXY:
        return None
    for choice, _shown in proxies.proxy_choices(own):
        code = None if choice == proxies.NONE else choice
        names = {
            str(choice),
            settings.WK_PROXIES.get(code, ""),
            *_in_every_language(partial(proxies.choice, code)),
        }
        if word in set(map(_plain, names)) - {""}:
            return code
    raise ValidationError(_("This proxy isn’t known. Enter its code or its name, or “None”."))
