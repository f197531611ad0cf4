"""What an upstream may send, rightly and wrongly: bodies, picture addresses, strings. Only values, no tests."""

import codecs
import json
from typing import Any

WC_ID, W_ID = "wxid_wl9qchkanp9u22", "0000016e-63ef-3a9c-0001-ed3311628ef4"
AVATAR = "http://wx.qlogo.cn/mmhead/ver_1/abc/132"
PICTURE = "http://127.0.0.1:18081/1573634652963-500000.png"
PROFILE: dict[str, Any] = {
    "wcId": WC_ID,
    "wId": W_ID,
    "wAccount": "weixin-number",
    "nickName": "小明",
    "headUrl": "http://wx.qlogo.cn/mmhead/ver_1/abc/0",
    "smallHeadImgUrl": AVATAR,
    "sex": 2,
    "country": "CN",
    "city": "Guangzhou",
    "signature": "好好学习",
    "deviceType": "android",
    "uin": 1234567890,
    "mobilePhone": "13800138000",
    "username": "developer",
    "type": 2,
    "status": 3,
}
CODE = {"wId": W_ID, "qrCodeUrl": PICTURE}
SIGN_IN = {"callbackUrl": None, "status": 0, "Authorization": "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiJhIn0.c2ln"}


def envelope(data: Any = None, code: Any = "1000", text: Any = "处理成功", key: str = "message") -> bytes:
    """As a server writes it: in UTF-8, and what UTF-8 cannot say escaped."""
    document = {key: text, "code": code, "data": data}
    try:
        return json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(document).encode()


WHOLE = envelope(PROFILE)
# 1000, in every type it may come in.
SUCCESS_CODES = ["1000", 1000, 1000.0, " 1000 ", "1000\n", 1e3]
# Everything else is no success.
OTHER_CODES: list[Any] = [
    *(
        "1001",
        1001,
        "10001",
        10001,
        "",
        " ",
        "0",
        0,
        -1,
        1,
        "100",
        "10000",
        "01000",
        "1000.0",
        "1e3",
        "+1000",
    ),
    *(
        "-1000",
        -1000,
        1000.5,
        999.9999999,
        1e300,
        10**30,
        10**4000,
        "1000,",
        "1000;1000",
        "1000 1000",
        "10 00",
    ),
    *(
        "１０００",
        "१०००",
        "千",
        "ok",
        "OK",
        "success",
        "true",
        True,
        False,
        None,
        [],
        ["1000"],
        {},
        {"code": 1000},
    ),
    *("1000" * 50, "x" * 5000, "0x3e8", "1001\x00", "'1000'", '"1000"', "NaN", "null", "-0", 1000000, "2000"),
]
# Not JSON, or no envelope.
GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "a space": b" ",
    "line ends": b"\r\n\r\n",
    "a NUL": b"\0",
    "NULs": bytes(1000),
    "all bytes": bytes(range(256)),
    "no text": b"\xff\xfe\xfd\xfc\x80\x81",
    "a page": b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    "a page with JSON in it": b'<html><script>{"code":"1000"}</script></html>',
    "XML": b'<?xml version="1.0"?><code>1000</code>',
    "words": b"upstream connect error or disconnect/reset before headers",
    "words in Chinese": "系统繁忙".encode(),
    "only a BOM": codecs.BOM_UTF8,
    "null": b"null",
    "true": b"true",
    "a number": b"1000",
    "a string": b'"1000"',
    "a list": b'[{"code":"1000"}]',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "no code": b'{"message":"x","data":{}}',
    "another case": b'{"Code":"1000","data":{}}',
    "an error page of Spring": b'{"timestamp":1,"status":500,"error":"Internal Server Error","path":"/iPadLogin"}',
    "two documents": WHOLE + WHOLE,
    "a tail": WHOLE + b"x",
    "a head": b"x" + WHOLE,
    "JSONP": b"callback(" + WHOLE + b");",
    "a guard": b")]}',\n" + WHOLE,
    "a comment": b"/* */" + WHOLE,
    "single quotes": b"{'code':'1000','data':{}}",
    "a comma too many": b'{"code":"1000","data":{},}',
    "no quotes": b"{code:1000}",
    "NaN": b'{"code":"1000","data":NaN}',
    "NaN as code": b'{"code":NaN}',
    "Infinity": b'{"code":"1000","data":[Infinity]}',
    "-Infinity": b'{"code":"1000","data":[-Infinity]}',
    "a raw line end in a string": b'{"code":"1000","message":"a\nb"}',
    "a raw NUL in a string": b'{"code":"1000","message":"a\0b"}',
    "half an escape": b'{"code":"1000","message":"\\u12"}',
    "a wrong escape": b'{"code":"1000","message":"\\x41"}',
    "an int of 5000 digits": b'{"code":' + b"1" * 5000 + b"}",
    "an id of 5000 digits": b'{"code":"1000","data":{"wcId":' + b"1" * 5000 + b"}}",
    "UTF-16 without a word of it": WHOLE.decode().encode("utf-16-le"),
    "UTF-32": WHOLE.decode().encode("utf-32"),
    "gzip, not said": bytes.fromhex("1f8b0800000000000003ab564ace4f4955b25232343050aa0500"),
    "deep lists": b'{"code":"1000","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"code":"1000","data":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    "deep, and never closed": b"[" * 300_000,
    "depth 33": b'{"code":"1000","data":' + b"[" * 32 + b"]" * 32 + b"}",
    "depth behind closing brackets in a string": b'{"a":"' + b"}" * 9000 + b'","code":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "depth behind 300 000 spaces": b'{"code":' + b" " * 300_000 + b"[" * 60 + b"]" * 60 + b"}",
    "two codes": b'{"code":"1000","code":"1001","data":null}',
    "two codes, the other way round": b'{"code":"1001","code":"1000","data":' + json.dumps(PROFILE).encode() + b"}",
    "two wcId": b'{"code":"1000","data":{"wcId":"wxid_a","wId":"w","wcId":"wxid_b"}}',
}  # fmt: skip
# A success cut off anywhere is nothing.
CUT = {f"cut after {size} bytes": WHOLE[:size] for size in range(0, len(WHOLE), 7)}
# Data that a login's success may hold, and which is no login: no usable wcId.
NO_PROFILE: list[Any] = [
    *(None, "", "data", 0, 1, True, [], [PROFILE], [[]], {}, {"data": PROFILE}, {"wcid": WC_ID}, {"wId": W_ID}),
    *({"wcId": value} for value in (None, "", " ", True, False, [], {}, [WC_ID], {"a": WC_ID}, 1.5, "\0", "a b")),
    *({"wcId": value} for value in ("wx\nid", "x" * 101, "x" * 10_000_000, "微信", "😀", "\ud800", "\u202ewxid")),
    *({"wcId": value} for value in ("<b>", "a'b", 'a"b', "a\\b", "a`b", "\x7f", "a\u200bb", "ｗｘｉｄ", "é", "\u2028")),
]  # fmt: skip
NO_CODE: list[Any] = [
    *({"wId": W_ID}, {"qrCodeUrl": PICTURE}, {}, None, "", [], [CODE], PICTURE, {"wId": W_ID, "qrcodeurl": PICTURE}),
    *({**CODE, "wId": value} for value in (None, "", 0.5, True, [], {}, "a b", "😀", "\0", "x" * 101, "\ud800")),
    *({**CODE, "qrCodeUrl": value} for value in (None, "", 1, True, [], {}, [PICTURE], "x.png", "/qr.png", "//h/a")),
    *({**CODE, "qrCodeUrl": value} for value in ("http://", "http:///a", "https:a", "http:\\\\h\\a", "http://h:x/")),
    *({**CODE, "qrCodeUrl": value} for value in ("http://h:99999/", "http://[::1", "http://h/ a", "http://h/\n")),
    *({**CODE, "qrCodeUrl": value} for value in ("http://a@h/", "http://a:b@h/", "http://@h/", "http://:b@h/")),
    *({**CODE, "qrCodeUrl": value} for value in ("http://h/" + "a" * 3000, "http://h/\u202e", "http://h/\ud800")),
]  # fmt: skip
NO_SIGN_IN: list[Any] = [
    *({"status": 0}, {"authorization": "x"}, {}, None, "", "token", [], ["token"], {"Authorization": None}),
    *({"Authorization": value} for value in ("", "  ", 1, True, [], {}, "a\r\nX-Other: b", "a\nb", "a\0b", "令牌")),
    *({"Authorization": value} for value in ("é", "x" * 4001, "\ud800", "a\u2028b", "😀", "a\tb", {"token": "x"})),
]  # fmt: skip
NO_ADDRESSES = [
    *("javascript:alert(1)", "JavaScript:alert(1)", "java\nscript:alert(1)", " javascript:alert(1)", "vbscript:x"),
    *("data:text/html,<script>alert(1)</script>", "data:image/png;base64,iVBORw0KGgo=", "file:///etc/passwd"),
    *("ftp://h/a.png", "gopher://h:70/_x", "ws://h/", "blob:http://h/1", "about:blank", "//h/a.png", "/a.png"),
    *("http:a", "http:/h/a", "http://", "https://", "http:///a", "http://u:p@h/", "http://h/a b", "http://h/\r\nX: y"),
    *("http://h:0/", "http://h:65536/", "http://[::1", "http://[fe80::1%25eth0", "http://h\\@o/", "http://h\\o/", 5),
    *("http://h/\u202egnp.exe", "http://h/\x00", "\x00http://h/", None, True, ["http://h/"], {}, "", "http://h/\ud800"),
]  # fmt: skip
# Answers of step 3 that are no success: (code, text) and how the login ends.
ENDINGS: list[tuple[Any, Any, str]] = [
    ("1001", "请在ipad上输入验证码", "code"),
    ("1001", "请在iPad上输入验证码", "code"),
    (1001, "请在IPAD上输入验证码", "code"),
    ("10001", "请在 iPad 上输入验证码！", "code"),
    ("1001", "验证码错误，请重新输入验证码", "code"),
    ("500", "请输入验证码", "code"),
    ("1001", "输入\n验证码", "code"),
    ("1001", "在新设备完成验证", "new device"),
    ("1001", "请在新设备上完成验证", "new device"),
    ("1001", "为保障安全，请在新设备完成验证后重试", "new device"),
    ("1001", "二维码已过期", "run out"),
    (10001, "二维码已过期", "run out"),
    ("1001", "二维码已失效，请重新获取", "run out"),
    ("1001", "扫码超时", "run out"),
    ("1001", "QR code expired", "run out"),
    ("1001", "login Timed Out", "run out"),
    ("1001", "用户取消登录", "declined"),
    ("1001", "已取消", "declined"),
    ("1001", "对方拒绝", "declined"),
    ("1001", "Cancelled by user", "declined"),
    ("1001", "失败", "refused"),
    (10001, "失败", "refused"),
    (1001.0, "失败", "refused"),
    ("1001", "系统失败,请重试", "refused"),
    ("1001", "登录出现错误，请你重新登录。", "refused"),
    ("1001", "二次登录失败，请重新扫码登录", "refused"),
    ("1001", "用户名或密码错误", "refused"),
    ("1001", "处理成功", "refused"),
    ("1001", None, "refused"),
    ("1001", ["失败"], "refused"),
    ("1001", {"text": "失败"}, "refused"),
    ("1001", 5, "refused"),
    ("1002", "", "refused"),
    (0, "", "refused"),
    ("", "失败", "refused"),
    (None, "失败", "refused"),
    (True, "失败", "refused"),
    ("200", None, "bad"),
    (None, None, "bad"),
    ("", "", "bad"),
]
SIGN_IN_REFUSALS = [
    *("Authorization无效，请重新登录", "authorization invalid", "AUTHORIZATION错误", "Unauthorized", "token无效"),
    *("token已失效", "您的token已过期", "无效token", "Token invalid", "invalid token", "TOKEN 过期", "请先登录", "请登录"),
    *("未授权", "未授权的访问", "授权失败", "授权已过期", "授权信息错误", "无效授权", "无效的授权", "认证失败", "登录失效"),
    *("登录已失效", "认证已过期", "token不能为空"),
]  # fmt: skip
NO_SIGN_IN_REFUSALS = [
    *("失败", "系统失败,请重试", "用户名或密码错误", "二维码已过期", "网络链接异常", "tokenizer", "二次登录失败，请重新扫码登录"),
    *("登录出现错误，请你重新登录。", "取消", "请在ipad上输入验证码", "在新设备完成验证", ""),
]  # fmt: skip
# Text that lies, breaks a row, or breaks a page; {text: what may be left of it}.
CONTROL_STRINGS: dict[str, str] = {
    "a\x00b": "a b", "\x00": "", "a\x01b": "a b", "a\x07b": "a b", "a\x08b": "a b", "a\x1b[31mb": "a [31mb",
    "a\x7fb": "a b", "a\x80b": "a b", "a\x85b": "a b", "a\x9fb": "a b", "a\tb": "a b", "a\nb": "a b", "a\rb": "a b",
    "a\r\nb": "a b", "a\x0bb": "a b", "a\x0cb": "a b", "a\u2028b": "a b", "a\u2029b": "a b", " a ": "a",
    "a   b": "a b", "\u3000a\u3000": "a", "a\u00a0b": "a b", "a\u202eb": "ab", "a\u202ab": "ab", "a\u202bb": "ab",
    "a\u202cb": "ab", "a\u202db": "ab", "a\u2066b": "ab", "a\u2067b": "ab", "a\u2068b": "ab", "a\u2069b": "ab",
    "a\u200eb": "ab", "a\u200fb": "ab", "a\u061cb": "ab", "a\ud800b": "ab", "x\udfffy": "xy", "\ud83d": "",
    "a\ufffeb": "ab", "a\uffffb": "ab", "a\ufdd0b": "ab", "a\U0001fffeb": "ab", "\x1b]0;title\x07x": "]0;title x",
    "小明": "小明", "👨‍👩‍👧": "👨‍👩‍👧", "🫨": "🫨", "\U0001fae9": "\U0001fae9", "Ω≈ç√": "Ω≈ç√", "<b>": "<b>",
    "=1+1": "=1+1", "' OR 1=1--": "' OR 1=1--", "مرحبا": "مرحبا", "e\u0301": "e\u0301",
}  # fmt: skip


def hand_made() -> dict[str, bytes]:
    """Every body above, and each list's values in every place that they may stand in."""
    bodies = {**GARBAGE, **CUT}
    data = {"profile": PROFILE, "code": CODE, "sign-in": SIGN_IN, "nothing": None}
    for code in [*SUCCESS_CODES, *OTHER_CODES]:
        for name, value in data.items():
            bodies[f"code {ascii(code)[:40]} with {name}"] = envelope(value, code)
    for values in (NO_PROFILE, NO_CODE, NO_SIGN_IN):
        for place, value in enumerate(values):
            bodies[f"{id(values)} {place} {ascii(value)[:40]}"] = envelope(value)
    for address in NO_ADDRESSES:
        bodies[f"page {ascii(address)}"] = envelope({"url": address}, "200")
        bodies[f"avatar {ascii(address)}"] = envelope(
            {**PROFILE, "smallHeadImgUrl": address, "headUrl": address}
        )
    for code, text, _ending in ENDINGS:
        bodies[f"ending {code!r} {text!r}"] = envelope(None, code, text)
        bodies[f"ending in msg {code!r} {text!r}"] = envelope(None, code, text, key="msg")
        bodies[f"ending inside {code!r} {text!r}"] = envelope({"code": code, "message": text, "data": None})
    for text in CONTROL_STRINGS:
        bodies[f"text {ascii(text)}"] = envelope(dict.fromkeys(PROFILE, text), "1000", text)
    for encoding in ("gb18030", "gbk", "big5", "utf-16", "utf-8-sig", "latin-1"):
        bodies[encoding] = WHOLE.decode().encode(encoding, "replace")
    return bodies


# {port} is a listener on this machine that must not be found. wk.invalid is the upstream's own host.
PICTURE_ADDRESSES = [
    *("http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://LOCALHOST:{port}/", "http://localhost.:{port}/"),
    *("http://127.1:{port}/", "http://127.0.1:{port}/", "http://127.0.0.2:{port}/", "http://127.255.255.254:{port}/"),
    *("http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://0x7f.0.0.1:{port}/", "http://017700000001:{port}/"),
    *("http://0177.0.0.1:{port}/", "http://0177.0.0.01:{port}/", "http://0x7f.1:{port}/", "http://0:{port}/"),
    *("http://0.0.0.0:{port}/", "http://000.000.000.000:{port}/", "http://127.0.0.1.:{port}/", "http://00127.0.0.1:{port}/"),
    *("http://[::1]:{port}/", "http://[0:0:0:0:0:0:0:1]:{port}/", "http://[::]:{port}/", "http://[::ffff:127.0.0.1]:{port}/"),
    *("http://[::ffff:7f00:1]:{port}/", "http://[::127.0.0.1]:{port}/", "http://[64:ff9b::7f00:1]:{port}/"),
    *("http://[::1%25lo]:{port}/", "http://[0000::0001]:{port}/", "http://[::1]:{port}#@wk.invalid/", "http://[::1:{port}/"),
    *("http://①②⑦.⓪.⓪.①:{port}/", "http://127。0。0。1:{port}/", "http://１２７.0.0.1:{port}/", "http://ⓛocalhost:{port}/"),
    *("http://localtest.me:{port}/", "http://127.0.0.1.nip.io:{port}/", "http://spoofed.burpcollaborator.net:{port}/"),
    *("http://xn--80ak6aa92e.com:{port}/", "http://wk.invalid.evil.invalid:{port}/", "http://evil-wk.invalid:{port}/"),
    *("http://wk.invalid.:{port}/", "http://wk.invalid@127.0.0.1:{port}/", "http://wk.invalid:80@127.0.0.1:{port}/"),
    *("http://wk.invalid%00@127.0.0.1:{port}/", "http://wk.invalid%2f@127.0.0.1:{port}/", "http://@127.0.0.1:{port}/"),
    *("http://wk.invalid#@127.0.0.1:{port}/", "http://wk.invalid?@127.0.0.1:{port}/", "http://wk.invalid/@127.0.0.1:{port}/"),
    *("http://wk.invalid\\@127.0.0.1:{port}/", "http://127.0.0.1:{port}\\@wk.invalid/", "http://127.0.0.1:{port}@wk.invalid/"),
    *("http://127.0.0.1:{port}#@wk.invalid/", "http://127.0.0.1:{port}?@wk.invalid/", "http://127.0.0.1:{port}/@wk.invalid/"),
    *("http://127.0.0.1:{port}\\wk.invalid/", "http:\\\\127.0.0.1:{port}\\", "http:/127.0.0.1:{port}/", "http:127.0.0.1:{port}"),
    *("http:///127.0.0.1:{port}/", "//127.0.0.1:{port}/", "127.0.0.1:{port}/", "///127.0.0.1:{port}/", "http://127.0.0.1:{port}:80/"),
    *("http://127.0.0.1\t:{port}/", "http://127.0.0.1\n:{port}/", "\thttp://127.0.0.1:{port}/", " http://127.0.0.1:{port}/"),
    *("http://wk.invalid\r\nHost: 127.0.0.1:{port}\r\n\r\n", "http://127.0.0.1:{port}/\r\nX: y", "http://127.0.0.1:{port}/\0"),
    *("http://wk.invalid\0.127.0.0.1:{port}/", "http://127.0.0.1%09:{port}/", "http://127.0.0.1%20:{port}/", "http://%31%32%37.0.0.1:{port}/"),
    *("https://127.0.0.1:{port}/", "HTTP://127.0.0.1:{port}/", "hTTps://localhost:{port}/", "ftp://127.0.0.1:{port}/"),
    *("gopher://127.0.0.1:{port}/_GET", "dict://127.0.0.1:{port}/", "ldap://127.0.0.1:{port}/", "file:///etc/passwd"),
    *("file://127.0.0.1:{port}/etc/passwd", "data:image/png;base64,AAAA", "javascript:alert(1)", "jar:http://127.0.0.1:{port}!/"),
    *("unix:///var/run/docker.sock", "http+unix://127.0.0.1:{port}/", "view-source:http://127.0.0.1:{port}/"),
    *("http://[", "http://]", "http://[]:{port}/", "http://[127.0.0.1]:{port}/", "http://:{port}/", "http://", "", "http://%:{port}/"),
    *("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://metadata.google.internal/"),
]  # fmt: skip
