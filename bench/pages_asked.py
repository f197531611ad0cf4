"""The pages that bench/pages.py measures: every list, under each filter, in each order, at its ends and in its middle."""

A = "/admin/accounts/account/"
T = "/admin/accounts/loginattempt/"
E = "/admin/accounts/accountevent/"
D = "/admin/accounts/drop/"


def pages(known: dict[str, str]) -> dict[str, str]:
    """Title and address; `#name` is who asks, an admin where it is not said. `known` are values that rows have."""
    return {
        **desk(known),
        **{
            f"{title}, {who.replace('-', ' ')}": f"{address}#{who}"
            for who in ("one-team", "three-teams", "city-team", "city-teams")
            for title, address in desk(known).items()
        },
        "/accounts/ID/": "/accounts/500/",
        "/accounts/ID/, long history": "/accounts/1/",
        "/accounts/ID/, its second page": f"/accounts/1/?page=%3E{known['attempt']}",
        "/accounts/ID/, its last page": "/accounts/1/?page=last",
        **{
            f"{title}{who and ', '}{who.replace('-', ' ')}": f"{address}#{who}"
            for who in ("", "one-team", "three-teams", "city-team")
            for title, address in kept_online(known).items()
            if not (who and title == "discovered")
        },
        "/, small team": "/#small-team",
        "/ search, small team": "/?q=shop#small-team",
        **admin_accounts(known),
        **history("attempts", T, "created_at", known),
        **history("events", E, "at", known),
        **history("drops", D, "at", known),
        **by_reason("attempts", T, known),
        **by_reason("events", E, known),
        **only_attempts(known),
        **only_events(known),
        **only_drops(known),
        "event": f"{E}1000/change/",
        "tags": "/admin/accounts/tag/",
        "users": "/admin/auth/user/",
        "index": "/admin/",
    }


def desk(known: dict[str, str]) -> dict[str, str]:
    """The accounts page."""
    middle = f"?page=%3E{known['middle']}"
    words = {
        "label, one match": "flagship",
        "whole wcId": known["wc_id"],
        "two characters, one match": "骆驿",
        "two characters, none": "骆驼",
        "one character, all": "店",
        "one character, none": "驼",
        "city at the end": "西安",
        "city at the beginning": "上海",
        "all": "shop",
        "two words": "shop 西安",
        "digits": "1",
        "none": "zzzzzz",
    }
    found = {
        "/": "/",
        "/ last page": "/?page=last",
        "/ middle page": f"/{middle}",
        "/ counts": "/accounts/counts/",
    }
    for state in ("online", "waiting", "offline", "new"):
        found[f"/ {state}"] = f"/?state={state}"
        found[f"/ {state}, last page"] = f"/?state={state}&page=last"
        found[f"/ {state}, by since"] = f"/?state={state}&sort=since"
    for order in ("-label", "state", "-state", "since", "-since"):
        found[f"/ by {order}"] = f"/?sort={order}"
        found[f"/ by {order}, middle page"] = f"/{middle}&sort={order}"
    for title, tag in {
        "one in twenty": known["tag_name"],
        "many": "many",
        "most": "most",
        "few": "few",
        "none": "none",
    }.items():
        found[f"/ tag: {title}"] = f"/?tag={tag}"
    found["/ tag, by since"] = "/?tag=many&sort=since"
    found["/ tag, offline, last page"] = "/?tag=many&state=offline&page=last"
    for title, word in words.items():
        found[f"/ search: {title}"] = f"/?q={word}"
    found["/ search: all, by since"] = "/?q=shop&sort=since"
    found["/ search: all, last page"] = "/?q=shop&page=last"
    found["/ search: all, offline, tag"] = "/?q=shop&state=offline&tag=many"
    found["/ search: city at the end, last page"] = "/?q=西安&page=last"
    found["/ search: city at the end, counts"] = "/accounts/counts/?q=西安"
    return found


def kept_online(known: dict[str, str]) -> dict[str, str]:
    """The pages about accounts that dropped."""
    return {
        "to scan": "/to-scan/",
        "incidents": "/incidents/",
        "incident, over": f"/incidents/{known['incident']}/",
        "incident, newest": f"/incidents/{known['newest_incident']}/",
        "discovered": "/discovered/",
    }


def admin_accounts(known: dict[str, str]) -> dict[str, str]:
    asked = {
        "": "",
        ", by label": "?o=-1",
        ", by state": "?o=3",
        ", by since": "?o=-4",
        ": state": "?state__exact=offline",
        ": line": "?line=3",
        ": unused line": "?line=6",
        ": no line": "?line=none",
        ": team": f"?team={known['team']}",
        ": no team": "?team=none",
        ": tag": f"?tag={known['tag']}",
        ": tag of most": f"?tag={known['most']}",
        ": unused tag": f"?tag={known['none']}",
        ": not kept online": "?keep_online__exact=0",
        ": kept online": "?keep_online__exact=1",
        ": some days of last logins": f"?{known['last_login_at']}",
        ": half a year of last logins": f"?last_login_at_from={known['half_a_year_ago']}",
        ": some days of first logins": f"?{known['first_login_at']}",
        ": state, line, kept online": "?state__exact=online&line=3&keep_online__exact=1",
        ": state, by since": "?state__exact=offline&o=-4",
        ": search, one match": "?q=flagship",
        ": search, two characters": "?q=骆驿",
        ": search, city at the end": "?q=西安",
        ": search, all": "?q=shop",
        ": search, all, offline": "?q=shop&state__exact=offline",
        ": search, none": "?q=zzzzzz",
    }
    found = {f"accounts{title}": A + query for title, query in asked.items()}
    for title in ("", ", by state", ": line", ": state", ": tag", ": search, all"):
        found[f"accounts{title}, last page"] = found[f"accounts{title}"] + "#last"
    return {
        **found,
        "accounts, one team": f"{A}#one-team",
        "accounts, city teams": f"{A}#city-teams",
        "accounts: search, all, one team": f"{A}?q=shop#one-team",
        "account": f"{A}500/change/",
        "account, long history": f"{A}1/change/",
        "account, delete": f"{A}1/delete/",
    }


def history(name: str, page: str, moment: str, known: dict[str, str]) -> dict[str, str]:
    """What the lists of attempts, events and drops have in common."""
    asked = {
        "": "",
        ": some days": f"?{known[name]}",
        ": until half a year ago": f"?{moment}_to={known['half_a_year_ago']}",
        ": of one account": "?account__id__exact=1",
        ": search label": "?q=flagship",
        ": search, two characters": "?q=骆驿",
        ": search, city at the end": "?q=西安",
        ": search, all": "?q=shop",
        ": search, none": "?q=zzzzzz",
    }
    found = {f"{name}{title}": page + query for title, query in asked.items()}
    for title in ("", ": of one account", ": search, all"):
        found[f"{name}{title}, last page"] = found[f"{name}{title}"] + "#last"
    return {
        **found,
        f"{name}, one team": f"{page}#one-team",
        f"{name}, city team": f"{page}#city-team",
        f"{name}, small team": f"{page}#small-team",
        f"{name}: search, all, one team": f"{page}?q=shop#one-team",
    }


def by_reason(name: str, page: str, known: dict[str, str]) -> dict[str, str]:
    """What the lists of attempts and of events have in common beside it."""
    asked = {
        ": reason": "?reason__exact=declined",
        ": rare reason": "?reason__exact=interrupted",
        ": absent reason": "?reason__exact=qr_host",
        ": operator": f"?operator={known['operator']}",
        ": of one account, of one reason": "?account__id__exact=1&reason__exact=not_scanned",
    }
    found = {f"{name}{title}": page + query for title, query in asked.items()}
    for title in (": reason", ": operator"):
        found[f"{name}{title}, last page"] = found[f"{name}{title}"] + "#last"
    return found


def only_attempts(known: dict[str, str]) -> dict[str, str]:
    asked = {
        "state": "state__exact=failed",
        "open": "state__exact=waiting",
        "absent state": "state__exact=code_required",
        "trigger": "trigger__exact=api",
        "absent trigger": "trigger__exact=owner",
        "method": "method__exact=popup",
        "line": "line=3",
        "unused line": "line=6",
        "state, line": "state__exact=expired&line=3",
        "state, line, operator": f"state__exact=failed&line=3&operator={known['operator']}",
        "search wId": "q=wait-0000000100",
    }
    found = {f"attempts: {title}": f"{T}?{query}" for title, query in asked.items()}
    return {**found, "attempt": f"{T}1000/change/"}


def only_events(known: dict[str, str]) -> dict[str, str]:
    asked = {
        "happened": "happened__exact=account_offline",
        "rare": "happened__exact=joined",
        "absent": "happened__exact=stale_success",
        "some days, one kind": f"{known['events']}&happened__exact=attempt_moved",
    }
    return {f"events: {title}": f"{E}?{query}" for title, query in asked.items()}


def only_drops(known: dict[str, str]) -> dict[str, str]:
    asked = {
        "kind": "kind__exact=first_night",
        "absent kind": "kind__exact=at_once",
        "some days, one kind": f"{known['drops']}&kind__exact=first_night",
        "incident": f"incident__exact={known['incident']}",
    }
    found = {f"drops: {title}": f"{D}?{query}" for title, query in asked.items()}
    return {**found, "drop": f"{D}1000/change/"}
