"""Texts of the pages, in English and in simplified Chinese."""

from typing import NamedTuple


class Said(NamedTuple):
    """Texts of a login's state: the chip, its color class, and one sentence."""

    chip: str
    colour: str
    sentence: str


EN = {
    "lang": "en",
    "title": "WeChat simulator",
    "note": "Simulated phones. No real WeChat account is touched.",
    "newcomer": "A new account",
    "newcomer_hint": "Nobody has logged in with this code before",
    "phone_of": "Phone of {name}",
    "confirm": "Log in",
    "cancel": "Cancel",
    "scan": "Only scan",
    "otherwise": "Something else happens",
    "code": "Ask for a code",
    "page": "Ask for a page visit",
    "new_device": "Demand a check on a new device",
    "expire": "Let the code expire",
    "other": "Scan as this account",
    "other_label": "Another account",
    "somebody_new": "Somebody new",
    "done": "Done, I am not a robot",
    "open_page": "Open the page",
    "unknown": "This code is not known here",
    "unknown_hint": "It is from before the simulator was restarted. Ask for a new one.",
    "no_prompt": "No prompt on this phone",
    "no_prompt_hint": "It appears here as soon as the computer asks to log in.",
    "check": "Security check",
    "check_hint": "WeChat wants to be sure it is {name}.",
    "checked": "Checked. Go back to the phone and the computer.",
    "codes": "Codes to scan",
    "no_codes": "No code is waiting. Ask the portal for one, and it appears here.",
    "prompts": "Prompts on phones",
    "online": "Online",
    "no_online": "Nobody is online.",
    "drop": "Drop",
    "open_phone": "Open the phone",
    "more": "and {n} more",
    "seconds_ago": "{n} s ago",
    "minutes_ago": "{n} min ago",
    "back": "All phones",
    "address": "Listening as",
    "qr_alt": "Login code",
}
ZH = {
    "lang": "zh-Hans",
    "title": "微信模拟器",
    "note": "这里是模拟手机，不会触及真实的微信账号。",
    "newcomer": "新账号",
    "newcomer_hint": "这个二维码尚未对应任何账号",
    "phone_of": "{name} 的手机",
    "confirm": "登录",
    "cancel": "取消",
    "scan": "仅扫码",
    "otherwise": "发生其他情况",
    "code": "要求输入验证码",
    "page": "要求打开验证页面",
    "new_device": "要求在新设备完成验证",
    "expire": "让二维码过期",
    "other": "用此账号扫码",
    "other_label": "其他账号",
    "somebody_new": "一个新的人",
    "done": "完成验证",
    "open_page": "打开验证页面",
    "unknown": "此处没有这个二维码",
    "unknown_hint": "它来自模拟器重启之前，请重新获取。",
    "no_prompt": "这部手机上没有登录提示",
    "no_prompt_hint": "电脑请求登录时，提示会立即出现在这里。",
    "check": "安全验证",
    "check_hint": "微信需要确认是 {name} 本人操作。",
    "checked": "验证完成，请回到手机和电脑。",
    "codes": "待扫描的二维码",
    "no_codes": "暂无二维码。在管理台获取后会出现在这里。",
    "prompts": "手机上的登录提示",
    "online": "在线账号",
    "no_online": "没有在线账号。",
    "drop": "强制下线",
    "open_phone": "打开手机",
    "more": "另有 {n} 个",
    "seconds_ago": "{n} 秒前",
    "minutes_ago": "{n} 分钟前",
    "back": "全部手机",
    "address": "服务地址",
    "qr_alt": "登录二维码",
}
STATES_EN = {
    "waiting": Said("Waiting for you", "waiting", "A computer wants to log in to WeChat with this account."),
    "scanned": Said("Scanned", "waiting", "Scanned. Tap Log in to let the computer in."),
    "confirmed": Said("Confirmed", "waiting", "Confirmed. Waiting for the computer to finish the login."),
    "code": Said("Code needed", "due", "Enter this code on the computer."),
    "page": Said("Check needed", "due", "Pass the check on the page, then the computer goes on."),
    "online": Said("Logged in", "online", "This account is online on the computer."),
    "cancelled": Said("Cancelled", "", "You refused this login. Ask for a new code to try again."),
    "expired": Said("Expired", "expired", "This code is too old. Ask for a new one."),
    "failed": Said("Failed", "failed", "WeChat refused this login."),
    "dropped": Said("Offline", "failed", "The account was online with this code and is not any more."),
    "replaced": Said("Replaced", "", "A newer login has taken the place of this one."),
}
STATES_ZH = {
    "waiting": Said("等待操作", "waiting", "一台电脑想用这个账号登录微信。"),
    "scanned": Said("已扫码", "waiting", "已扫码，点“登录”让电脑进入。"),
    "confirmed": Said("已确认", "waiting", "已确认，等待电脑完成登录。"),
    "code": Said("需要验证码", "due", "请在电脑上输入这个验证码。"),
    "page": Said("需要验证", "due", "在页面上完成验证后，电脑会继续登录。"),
    "online": Said("登录成功", "online", "此账号已在电脑上在线。"),
    "cancelled": Said("已取消", "", "你拒绝了这次登录，如需重试请获取新的二维码。"),
    "expired": Said("已过期", "expired", "二维码已过期，请重新获取。"),
    "failed": Said("登录失败", "failed", "微信拒绝了这次登录。"),
    "dropped": Said("已下线", "failed", "此账号曾用这个二维码在线，现已下线。"),
    "replaced": Said("已被替换", "", "更新的一次登录取代了它。"),
}


class Language(NamedTuple):
    words: dict[str, str]
    states: dict[str, Said]


ENGLISH, CHINESE = Language(EN, STATES_EN), Language(ZH, STATES_ZH)


def language(accept: str) -> Language:
    """Return the language that an Accept-Language header prefers; English if it names neither."""
    wishes = []
    for place, wish in enumerate(accept.split(",")):
        tag, _, quality = wish.strip().lower().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            weight = 0.0
        wishes.append((-weight, place, tag))
    for _, _, tag in sorted(wishes):
        if tag.startswith("zh"):
            return CHINESE
        if tag.startswith("en"):
            return ENGLISH
    return ENGLISH
