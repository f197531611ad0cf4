"""The accounts page as a question: what was asked (search, state, tag, order, page), and what answers it."""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.models import Account, LoginAttempt
from accounts.paging import Order, Page, count_up_to, page_of
from accounts.states import AccountState

ORDERS = {
    "label": Order("label", fold=True),
    "-label": Order("label", fold=True, descending=True),
    "state": Order("state"),
    "-state": Order("state", descending=True),
    "since": Order("state_since", descending=True),
    "-since": Order("state_since"),
}
DEFAULT_ORDER = "label"
WAITING = "waiting"
TABS = (
    ("", _("All")),
    (AccountState.ONLINE.value, _("Online")),
    (WAITING, _("Waiting")),
    (AccountState.OFFLINE.value, _("Offline")),
    (AccountState.NEW.value, _("New")),
)


@dataclass(frozen=True, slots=True)
class AccountSearch:
    """Built from a query string; what is not understood there counts as not asked."""

    user: object
    text: str = ""
    state: str = ""
    tag: str = ""
    order: str = DEFAULT_ORDER
    cursor: str = ""

    @classmethod
    def of(cls, request) -> "AccountSearch":
        asked = request.GET
        state = asked.get("state", "")
        order = asked.get("sort", DEFAULT_ORDER)
        return cls(
            user=request.user,
            text=" ".join(asked.get("q", "")[:100].replace("\x00", "").split()),
            state=state if state in dict(TABS) else "",
            tag=asked.get("tag", "")[:40].replace("\x00", ""),
            order=order if order in ORDERS else DEFAULT_ORDER,
            cursor=asked.get("page", ""),
        )

    def found(self, state: str | None = None) -> QuerySet:
        """Every account asked for, unordered; `state` asks for another tab."""
        state = self.state if state is None else state
        accounts = Account.objects.visible_to(self.user).kept()
        if self.text:
            accounts = accounts.matching(self.text)
        if self.tag:
            accounts = accounts.filter(tags__name=self.tag)
        if state == WAITING:
            accounts = accounts.filter(pk__in=LoginAttempt.objects.open().values("account"))
        elif state:
            accounts = accounts.filter(state=state)
        return accounts

    def page(self) -> Page:
        rows = self.found().with_open_attempt().prefetch_related("tags").select_related("team")
        seen = Account.objects.visible_to(self.user)
        return page_of(rows.defer("note"), ORDERS[self.order], self.cursor, anchors=seen)

    def tabs(self) -> list[dict]:
        """Each tab with its title, its address, and how many accounts it has (None: more than are counted)."""
        return [
            {
                "state": state,
                "title": title,
                "query": self.query(state=state),
                "count": count_up_to(self.found(state)),
                "current": state == self.state,
            }
            for state, title in TABS
        ]

    def query(self, **changes) -> str:
        """The query string of this question with something changed; another question begins at its first page."""
        asked = {
            "q": self.text,
            "state": self.state,
            "tag": self.tag,
            "sort": self.order,
            "page": "",
            **changes,
        }
        if asked["sort"] == DEFAULT_ORDER:
            asked["sort"] = ""
        return "?" + urlencode({name: value for name, value in asked.items() if value})

    def sorted_by(self, column: str) -> str:
        """The query string for a click on a column's head: sort by it, or turn the order round."""
        return self.query(sort=f"-{column}" if self.order == column else column)

    @property
    def is_narrowed(self) -> bool:
        return bool(self.text or self.state or self.tag)
