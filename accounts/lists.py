"""The accounts page as a question: what was asked (search, state, tag, order, page), and where that is asked again."""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.finding import EVERY, WAITING, Finding, Seen
from accounts.lib.keyset_pagination import Order, Page
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
TABS = (
    (EVERY, _("All")),
    (AccountState.ONLINE.value, _("Online")),
    (WAITING, _("Waiting")),
    (AccountState.OFFLINE.value, _("Offline")),
    (AccountState.NEW.value, _("New")),
)


@dataclass(frozen=True)
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

    @cached_property
    def _finding(self) -> Finding:
        return Finding(Seen(self.user), self.text, self.tag)

    def page(self) -> Page:
        return self._finding.page(self.state, ORDERS[self.order], self.cursor)

    def tabs(self) -> list[dict]:
        """Each tab with its title, its address, and how many accounts it has; with `more`, at least so many."""
        counts = self._finding.counts()
        return [
            {
                "state": state,
                "title": title,
                "query": self.query(state=state),
                "count": counts[state][0],
                "more": counts[state][1],
                "current": state == self.state,
            }
            for state, title in TABS
        ]

    def tags(self) -> QuerySet:
        """Those that can be asked for."""
        return self._finding.seen.tags()

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
