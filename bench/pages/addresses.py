"""The pages that are measured: every list, under each filter, in each order, at its ends and in its middle.

Words in braces are values of rows (`renderer.known`); `#last` stands for the last full page of an admin's list.
"""

from collections.abc import Iterator

LAST = "#last"
# Searches: found once in a label (flagship), once in a nickname (骆驿), in every account (店, shop, 1), at the end of the
# order (西安), at its beginning (上海), never.
ACCOUNTS = """
    ?page=last ?page=%3E{middle}&sort=label counts/ counts/?q=西安 ?group=online ?group=online&page=last
    ?group=online&sort=since ?group=waiting ?group=waiting&page=last ?group=waiting&sort=since
    ?group=offline ?group=offline&page=last ?group=offline&sort=since ?group=new ?group=new&page=last
    ?group=new&sort=since ?sort=-label ?sort=place ?sort=place&page=last ?sort=since ?sort=-since
    ?page=%3E{middle}&sort=-label ?page=%3E{middle}&sort=since ?page=%3E{middle}&sort=-since ?tag=tag+01
    ?tag=many ?tag=most ?tag=few ?tag=none ?tag=many&sort=since ?tag=many&group=offline&page=last
    ?q=flagship ?q={wc_id} ?q=骆驿 ?q=骆驼 ?q=店 ?q=驼 ?q=西安 ?q=上海 ?q=shop ?q=shop+西安 ?q=1 ?q=zzzzzz
    ?q=西安&page=last ?q=shop&sort=since ?q=shop&page=last ?q=shop&group=offline&tag=many
    ?group=attention ?group=attention&page=last ?group=attention&sort=label
    ?proxy=3 ?proxy=3&group=offline ?sort=label ?rack=Rack+7
    ?page=%3Eonline.{until_day}T00:00:00%2B00:00.1 ?team={team}
"""
OTHERS = """
    / /accounts/ /overview/now/ /overview/charts/ /accounts/news/ /waiting/ /station/?source=scan_queue
    /incidents/ /incidents/{incident}/ /incidents/{newest_incident}/
"""
PEOPLE = [*OTHERS.split(), *(f"/accounts/{query}" for query in ACCOUNTS.split())]
ADMIN = """
    /status/ /accounts/500/ /accounts/1/ /accounts/1/?page=%3E{attempt} /accounts/1/?page=last /discovered/
    /admin/ /admin/auth/user/ /admin/accounts/tag/ /admin/accounts/account/500/change/
    /admin/accounts/account/1/change/ /admin/accounts/account/1/delete/ /admin/accounts/drop/1000/change/
    /admin/accounts/loginattempt/1000/change/ /admin/accounts/accountevent/1000/change/ /audit/ /audit/?page=last
    /audit/?kind=code_shown&since={from_day}&until={until_day} /audit/?who=operator03 /audit/?account=500
"""
ANY_LIST = "? ?#last ?q=flagship ?q=骆驿 ?q=西安 ?q=zzzzzz ?q=shop ?q=shop#last"
HISTORY = """?account__id__exact=1 ?account__id__exact=1#last ?DAY_to={until_day}
    ?DAY_from={from_day}&DAY_to={until_day}"""
REASONS = """?reason__exact=declined ?reason__exact=declined#last ?reason__exact=interrupted ?reason__exact=qr_host
    ?operator={operator} ?operator={operator}#last ?account__id__exact=1&reason__exact=not_scanned"""
LISTS = {
    "account": f"""{ANY_LIST}
        ?o=-1 ?o=3 ?o=3#last ?o=-4 ?state__exact=offline ?state__exact=offline#last ?state__exact=offline&o=-4
        ?q=shop&state__exact=offline ?line=3 ?line=3#last ?line=6 ?line=none ?team={{team}} ?team=none
        ?tag={{tag_01}} ?tag={{tag_01}}#last ?tag={{most}} ?tag={{none}} ?keep_online__exact=0 ?keep_online__exact=1
        ?state__exact=online&line=3&keep_online__exact=1 ?last_login_at_from={{until_day}}
        ?last_login_at_from={{from_day}}&last_login_at_to={{until_day}}
        ?first_login_at_from={{from_day}}&first_login_at_to={{until_day}}""",
    "loginattempt": f"""{ANY_LIST} {HISTORY.replace("DAY", "created_at")} {REASONS}
        ?q=wait-0000000100 ?state__exact=failed ?state__exact=waiting ?state__exact=code_required
        ?state__exact=expired&line=3 ?trigger__exact=api ?trigger__exact=owner ?method__exact=popup ?line=3 ?line=6
        ?state__exact=failed&line=3&operator={{operator}}""",
    "accountevent": f"""{ANY_LIST} {HISTORY.replace("DAY", "at")} {REASONS}
        ?happened__exact=account_offline ?happened__exact=joined ?happened__exact=stale_success
        ?at_from={{from_day}}&at_to={{until_day}}&happened__exact=attempt_moved""",
    "drop": f"""{ANY_LIST} {HISTORY.replace("DAY", "at")} ?kind__exact=first_night ?kind__exact=at_once
        ?at_from={{from_day}}&at_to={{until_day}}&kind__exact=first_night ?incident__exact={{incident}}""",
}
USERS = {
    "admin": [*PEOPLE, *ADMIN.split()],
    **dict.fromkeys(("one-team", "three-teams", "city-team", "city-teams"), PEOPLE),
    "small-team": ["/accounts/", "/accounts/?q=shop"],
}
TEAM_MEMBERS = {"one-team": ("?", "?q=shop"), "city-team": ("?",), "small-team": ("?",)}


def addresses(known: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (user, path)."""
    for user, paths in USERS.items():
        yield from ((user, path.format(**known)) for path in paths)
    for model, queries in LISTS.items():
        for user, own in {"admin": queries.split(), **TEAM_MEMBERS}.items():
            yield from ((user, f"/admin/accounts/{model}/{query}".format(**known)) for query in own)
