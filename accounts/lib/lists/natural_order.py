"""Keys for lists in natural order: 门店 2 before 门店 10, Chinese by its pinyin among Latin names."""

import re
import unicodedata
from functools import cache
from importlib import import_module

KEY_LENGTH = 200
# Names in labels in which a character is not read as it is alone. settings.py turns off pypinyin's own list of
# words, which would add 45 MB to each process that saves a label.
READINGS = {
    **dict.fromkeys(
        ("长沙", "长春", "长江", "长宁", "长安", "长乐", "长治", "长城", "长兴"), {"长": "cháng"}
    ),
    **dict.fromkeys(("厦门", "厦大"), {"厦": "xià"}),
    **dict.fromkeys(("重庆", "重新", "重复"), {"重": "chóng"}),
    **dict.fromkeys(("银行", "分行", "支行", "总行", "行业", "同行"), {"行": "háng"}),
    **dict.fromkeys(("音乐", "乐清", "乐器"), {"乐": "yuè"}),
    **dict.fromkeys(("会计",), {"会": "kuài"}),
    **dict.fromkeys(("首都", "成都", "都市", "花都", "武都"), {"都": "dū"}),
    **dict.fromkeys(("六安", "六合"), {"六": "lù"}),
    "蚌埠": {"蚌": "bèng"},
    "番禺": {"番": "pān"},
    "莘庄": {"莘": "xīn"},
    "台州": {"台": "tāi"},
    "丽水": {"丽": "lí"},
    "调度": {"调": "diào"},
}
_NUMBER = re.compile(r"\d+")


def natural_key(text: str) -> str:
    """Return what to sort `text` by: at most KEY_LENGTH letters and digits, so that every collation sorts it alike."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    if not folded.isascii():
        folded = "".join(_lazy_pinyin()(folded))
    counted = _NUMBER.sub(_with_length, folded)
    return "".join(char for char in counted if char.isalnum())[:KEY_LENGTH]


def _with_length(number: re.Match) -> str:
    """Return the digits after their count, by which 2 (012) comes before 10 (0210)."""
    digits = str(int(number[0])) if len(number[0]) < 100 else number[0][:99]
    return f"{len(digits):02}{digits}"


@cache
def _lazy_pinyin():
    """Return pypinyin's function. Its import takes 0.1 s and 13 MB, which few processes need."""
    pypinyin = import_module("pypinyin")
    pypinyin.load_phrases_dict(
        {
            word: [[read.get(char) or pypinyin.pinyin(char)[0][0]] for char in word]
            for word, read in READINGS.items()
        }
    )
    return pypinyin.lazy_pinyin
