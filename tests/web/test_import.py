"""Accounts from CSV and XLSX files: what a file would do, its errors by row, all or nothing."""

import csv
import re
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from datetime import timedelta
from io import BytesIO, StringIO
from itertools import chain

import openpyxl
import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError
from django.utils import timezone

from accounts.models import Account, AccountEvent, RecoveryPolicy, Tag, UnmanagedAccount
from accounts.states import AccountState, EventType
from accounts.web.exchange import import_save
from accounts.web.exchange.files.upload import Table, table_of
from accounts.web.exchange.import_run import Import
from tests.support.factories import fresh

pytestmark = pytest.mark.usually("sqlite")

PROXY = "none"
SHEET = "xl/worksheets/sheet1.xml"
MAIN = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"

STRINGS_TYPE = (
    b'<Override PartName="/xl/sharedStrings.xml" ContentType="application/'
    b'vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/>'
)


def upload(person, content: str | bytes, name: str = "accounts.csv", status: int = 200) -> str:
    data = content.encode() if isinstance(content, str) else content
    answer = person.client.post("/accounts/import/", {"file": SimpleUploadedFile(name, data)})
    assert answer.status_code == status
    return answer.content.decode()


def fields(page: str) -> dict[str, str]:
    """What the page's form sends."""
    found = {"carried": re.search(r'name="carried" value="([^"]+)"', page)[1]}
    for select in re.findall(r'<select.*?name="(column-\d+)".*?</select>', page, re.DOTALL):
        body = page.split(f'name="{select}"')[1].split("</select>")[0]
        chosen = re.search(r'value="(\w+)"\s+selected', body)
        found[select] = chosen[1] if chosen else ""
    return found


def start(person, page: str, status: int = 302, **changes) -> str:
    answer = person.client.post("/accounts/import/", fields(page) | {"start": "1"} | changes)
    assert answer.status_code == status
    return answer.content.decode()


def results(page: str) -> dict[int, str]:
    return {int(n): what for n, what in re.findall(r'data-row="(\d+)"\s+data-result="(\w+)"', page)}


def errors(page: str) -> list[str]:
    found = re.findall(r'<p class="error"[^>]*>(.*?)</p>', page, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", "", text).split()) for text in found]


def xlsx(*rows, change=None, as_text: bool = False) -> bytes:
    book, written = openpyxl.Workbook(), BytesIO()
    for row in rows:
        book.active.append(row)
    for cell in chain.from_iterable(book.active) if as_text else ():
        cell.data_type = "s"
    if change:
        change(book.active)
    book.save(written)
    return written.getvalue()


def with_part(content: bytes, name: str, change) -> bytes:
    """The XLSX file with another part of that name."""
    packed = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            new.writestr(part, change(old.read(part)) if part == name else old.read(part))
    return packed.getvalue()


def with_note(cell: bytes) -> bytes:
    """An XLSX file with one account, whose note is this cell."""

    def change(sheet: bytes) -> bytes:
        changed = re.sub(rb'<c r="C2".*?</c>', lambda _found: cell, sheet)
        assert changed != sheet
        return changed.replace(b"<worksheet ", b'<worksheet xmlns:x="' + MAIN + b'" ')

    return with_part(xlsx(["label", "proxy", "note"], ["A", "none", "x"]), SHEET, change)


# --- what it does -----------------------------------------------------------------------------------------


@pytest.mark.usually("sqlite", "postgres")
def test_nothing_is_written_before_the_dry_run_was_seen(people):
    mine = people.account(label="Old", wc_id="wxid_old", state=AccountState.OFFLINE, place="Rack 1 · Slot 1")
    same = people.account(label="Same", wc_id="wxid_same", state=AccountState.OFFLINE)
    page = upload(
        people.operator,
        "Label,wcId,Place,Proxy,Tags,Note,Keep online\n"
        'New,,Rack 3 · Slot 10,none,"night, vip",hello,no\n'
        "Renamed,wxid_old,,,,,\n"
        "Same,,,,,,\n",
    )
    assert "To add: 1 · To change: 1 · Unchanged: 1 · With errors: 0" in page
    assert results(page) == {2: "added", 3: "changed"}
    assert Account.objects.count() == 2 and fresh(mine).label == "Old"
    start(people.operator, page)
    new = Account.objects.get(label="New")
    assert (new.place, new.rack, new.proxy, new.note) == ("Rack 3 · Slot 10", "Rack 3", None, "hello")
    assert [tag.name for tag in new.tags.all()] == ["night", "vip"] and new.team == people.east
    assert not new.keep_online
    assert (fresh(mine).label, fresh(mine).place) == ("Renamed", "Rack 1 · Slot 1")
    events = AccountEvent.objects.values_list("account", "happened", "detail", "actor_name")
    assert set(events) == {
        (new.pk, EventType.ADDED, "", "operator"),
        (mine.pk, EventType.CHANGED, "label", "operator"),
    }
    assert not same.events.exists()


def test_what_is_exported_is_imported_without_a_change(people):
    policy = RecoveryPolicy.objects.create(name="Gentle")
    account = people.account(
        label="=1+1", place="-rack", wc_id="@wxid", state=AccountState.OFFLINE, policy=policy, keep_online=False,
        note="@two\r\nlines, “quoted”; 门店", hours_from="09:00", hours_until="21:30", time_zone="Asia/Shanghai",
    )  # fmt: skip
    account.tags.set([Tag.objects.create(name="+1"), Tag.objects.create(name="b")])
    people.account(label="'=x", proxy=4)
    people.account(label="plain")
    exported = b"".join(people.operator.client.get("/accounts/export.csv"))
    page = upload(people.operator, exported)
    assert "To add: 0 · To change: 0 · Unchanged: 3 · With errors: 0" in page
    Account.objects.all().delete()
    start(people.operator, upload(people.operator, exported))
    assert b"".join(people.operator.client.get("/accounts/export.csv")).count(b"\n") == exported.count(b"\n")
    again = Account.objects.get(wc_id="@wxid")
    for name in ("label", "place", "note", "keep_online", "policy", "time_zone"):
        assert getattr(again, name) == getattr(account, name)
    assert {tag.name for tag in again.tags.all()} == {"+1", "b"}
    assert Account.objects.get(label="'=x").proxy == 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_chinese_files_of_every_program(people, encoding, delimiter):
    rows = [["名称", "位置", "线路", "备注"], ["门店 2", "机架 3 · 卡位 10", "不指定", "夜班"]]
    text = StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    start(people.operator, upload(people.operator, text.getvalue().encode(encoding)))
    account = Account.objects.get()
    assert (account.label, account.place, account.note) == ("门店 2", "机架 3 · 卡位 10", "夜班")


def test_a_spreadsheet(people):
    content = xlsx(
        ["label", "proxy", "wxid", "prompt hours from", "prompt hours until", "keep online"],
        [13800000000, 4.0, "wxid_1", "09:00", "21:30", True],
        [None, "none"],
        [None, None],
        ["last", "none"],
    )
    page = upload(people.operator, content, "accounts.xlsx", status=422)
    # A row without a label says so.
    assert results(page) == {3: "wrong", 2: "added", 5: "added"}
    content = xlsx(["label", "proxy", "wxid"], [13800000000, 4.0, "wxid_1"])
    start(people.operator, upload(people.operator, content, "accounts.xlsx"))
    account = Account.objects.get()
    assert (account.label, account.proxy, account.wc_id) == ("13800000000", 4, "wxid_1")


def test_columns_can_be_read_as_something_else(people):
    page = upload(people.operator, "phone;where;x\nA;Rack 1;none\n", status=422)
    assert "Choose the column with the label" in page
    chosen = {"column-0": "label", "column-1": "place", "column-2": "proxy"}
    start(people.operator, page, **chosen)
    assert Account.objects.get().place == "Rack 1"
    page = start(people.operator, page, status=422, **{**chosen, "column-1": "label"})
    assert "Two columns are read as “Label”." in page


def test_a_column_that_is_not_read_changes_nothing(people):
    account = people.account(label="A", place="Rack 1")
    page = upload(people.operator, "Label,Place,Note\nA,Rack 2,n\n")
    start(people.operator, page, **{"column-1": ""})
    assert (fresh(account).place, fresh(account).note) == ("Rack 1", "n")


# --- errors -----------------------------------------------------------------------------------------------


def test_one_wrong_row_keeps_all_out(people):
    other = people.account(label="Theirs", wc_id="wxid_theirs", team=people.west)
    archived = people.account(label="Gone", wc_id="wxid_gone", state=AccountState.ARCHIVED)
    for _n in range(2):
        people.account(label="Twice")
    page = upload(
        people.operator,
        "Label,wcId,Proxy,Team,Keep online,Prompt hours from\n"
        "Fine,,none,,,\n"
        "Mine now,wxid_theirs,none,,,\n"
        "Back,wxid_gone,,,,\n"
        "Twice,,,,,\n"
        "Bad proxy,,99999,,,\n"
        "Bad team,,none,West,,\n"
        "Bad word,,none,,perhaps,\n"
        "Half,,none,,,09:00\n"
        "No proxy,,,,,\n"
        "Bad wcId,w!,none,,,\n"
        "Fine,,none,,,\n"
        "Same ID,wxid_n,none,,,\n"
        "Same ID 2,wxid_n,none,,,\n",
        status=422,
    )
    said = dict(
        zip((n for n, what in results(page).items() if what == "wrong"), errors(page)[1:], strict=True)
    )
    assert said == {
        3: "wcId: You can’t enter this wcId. Leave the field empty and log in with the account’s phone, or contact "
        "an admin.",
        4: "This account is archived. Restore it first.",
        5: "Several accounts have this label. Add the wcId.",
        6: "Proxy: This proxy isn’t known. Enter its code or its name, or “None”.",
        7: "Team: “West” isn’t one of your choices here.",
        8: "Keep online: Enter “Yes” or “No”.",
        9: "Prompt hours until: Enter both times or neither.",
        10: "Proxy: Choose a proxy in the phone’s own region, or “None”.",
        11: "wcId: A wcId has 3 to 100 letters, digits, “_”, “-”, “.” or “@”, for example wxid_wl9qchkanp9u22.",
        12: "Row 2 is about the same account.",
        14: "Row 13 is about the same account.",
    }
    start(people.operator, page, status=422)
    assert not Account.objects.filter(label="Fine").exists()
    assert fresh(other).label == "Theirs" and fresh(archived).label == "Gone"


@pytest.mark.usually("sqlite", "postgres")
def test_a_row_that_got_its_wcid_meanwhile_keeps_all_out(people):
    page = upload(people.operator, "Label,wcId,Proxy\nA,wxid_a,none\nB,wxid_b,none\n")
    people.account(wc_id="wxid_b", team=people.west)
    start(people.operator, page, status=422)
    assert not Account.objects.filter(label="A").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "The submitted file is empty."),
        (b"  \n", "The file is empty."),
        (b"\n\n", "The file is empty."),
        (b"Label,Proxy\n", "The file has column names but no rows."),
        (b"\x00\x01\x02\xff" * 50, "This is no text file. Save it as CSV (UTF-8) or as XLSX."),
        (
            b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
            "This is no text file. Save it as CSV (UTF-8) or as XLSX.",
        ),
        (b"Label\n\xff\xff\xff\n", "This is no text file. Save it as CSV (UTF-8) or as XLSX."),
        (
            b"Label,Note\nA," + b"x" * 900_000,
            "Line 2 can’t be read: it is too long, or a quotation mark is missing.",
        ),
        (b'Label,Note\nA,"x\n', "Line 2 can’t be read: it is too long, or a quotation mark is missing."),
        (b"Label,Note\nA," + b"x" * 5000, "Row 2 has a cell with more than 4000 characters."),
        (b"Label\n" + b"A\n" * 5001, "The file has more than 5000 rows. Import it in parts."),
        (b"," * 61 + b"x\nA\n", "The file has more than 60 columns."),
        (b"PK\x03\x04 no archive", "This XLSX file can’t be read. Save it again, or save it as CSV."),
    ],
)
def test_a_file_that_is_no_table_says_why(people, content, said):
    assert errors(upload(people.operator, content, status=422)) == [said]


@pytest.mark.slow
def test_an_archive_that_expands_without_end_is_not_unpacked(people):
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", b" " * 40_000_000)
    page = upload(people.operator, packed.getvalue(), "accounts.xlsx", status=422)
    assert errors(page) == ["The file is too large. Import it in parts."]


@pytest.mark.slow
def test_a_part_that_is_larger_than_it_states_is_not_unpacked(people):
    def change(part: bytes) -> bytes:
        stated.append(part)
        return part + b" " * 150_000_000

    stated = []
    name = "xl/workbook.xml"
    content = bytearray(with_part(xlsx(["label"], ["A"]), name, change))
    with zipfile.ZipFile(BytesIO(content)) as archive:
        real = archive.getinfo(name)
    listed = content.rindex(name.encode()) - 46  # its entry in the directory at the end of the archive
    content[listed + 16 : listed + 20] = struct.pack("<L", zlib.crc32(stated[0]))
    assert content[listed + 24 : listed + 28] == struct.pack("<L", real.file_size)
    content[listed + 24 : listed + 28] = struct.pack("<L", len(stated[0]))
    tracemalloc.start()
    with suppress(ValidationError):
        table_of(SimpleUploadedFile("accounts.xlsx", bytes(content)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(content) < 200_000 and peak < 32 * 1024 * 1024


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_no_spreadsheet_program_writes_is_not_unpacked(people, how):
    packed = BytesIO()
    with zipfile.ZipFile(BytesIO(xlsx(["label"], ["A"]))) as old, zipfile.ZipFile(packed, "w", how) as new:
        for part in old.namelist():
            new.writestr(part, old.read(part))
    page = upload(people.operator, packed.getvalue(), "accounts.xlsx", status=422)
    assert errors(page) == ["This XLSX file can’t be read. Save it again, or save it as CSV."]


def test_an_archive_with_more_tags_than_a_table_has_is_not_parsed(people):
    content = with_part(xlsx(["label"], ["A"]), "xl/styles.xml", lambda _part: b"<a>" * 3_000_001)
    assert errors(upload(people.operator, content, "accounts.xlsx", status=422)) == [
        "The file is too large. Import it in parts."
    ]


def test_one_text_in_many_cells_counts_in_each_of_them(people):
    """6,000 cells with one text of 4,000 characters are a file of some kilobytes."""

    def change(sheet: bytes) -> bytes:
        row = b"<row>" + b'<c t="s"><v>0</v></c>' * 60 + b"</row>"
        return re.sub(rb'<row r="2".*?</row>', lambda _found: row * 100, sheet)

    content = with_part(xlsx(["label", *map(str, range(59))], ["x"]), SHEET, change)
    content = with_part(
        content, "[Content_Types].xml", lambda types: types.replace(b"</Types>", STRINGS_TYPE + b"</Types>")
    )
    packed = BytesIO(content)
    with zipfile.ZipFile(packed, "a") as archive:
        text = b"<si><t>" + b"x" * 4000 + b"</t></si>"
        archive.writestr("xl/sharedStrings.xml", b'<sst xmlns="' + MAIN + b'">' + text + b"</sst>")
    content = packed.getvalue()
    assert len(content) < 20_000
    page = upload(people.operator, content, "accounts.xlsx", status=422)
    assert errors(page) == ["The file is too large. Import it in parts."]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("A12000", "The file has more than 5000 rows. Import it in parts."),
        ("BJ2", "The file has more than 60 columns."),
    ],
)
def test_a_cell_that_is_far_away_is_not_left_out(people, cell, said):
    content = xlsx(["label", "proxy"], ["A", "none"], change=lambda sheet: sheet.__setitem__(cell, "far"))
    assert errors(upload(people.operator, content, "accounts.xlsx", status=422)) == [said]


def test_rows_without_a_cell_count_for_nothing(people):
    content = with_part(
        xlsx(["label", "proxy"], ["A", "none"]),
        SHEET,
        lambda sheet: sheet.replace(b"</sheetData>", b'<row r="900000"><c s="1"/></row></sheetData>'),
    )
    assert results(upload(people.operator, content, "accounts.xlsx")) == {2: "added"}


def test_a_row_with_more_cells_than_the_heads_says_so(people):
    page = upload(
        people.operator,
        "Label,Proxy,Note\nA,none,n,o, te\nB,none,n,, ,\n,,,x\n",
        status=422,
    )
    assert results(page) == {2: "wrong", 4: "wrong", 3: "added"}
    assert errors(page)[1:] == [
        "“o” is behind the last column. Put it into its column, or give its column a name.",
        "“x” is behind the last column. Put it into its column, or give its column a name.",
    ]
    start(people.operator, page, status=422)
    assert not Account.objects.exists()


@pytest.mark.usually("sqlite", "postgres")
def test_labels_that_are_stored_alike_are_one_account(people):
    content = "Label,Proxy\nShop  1,none\nShop 1,none\n\u200b,none\n\u200b,none\n"
    page = upload(people.operator, content, status=422)
    assert errors(page)[1:] == [
        "Row 2 is about the same account.",
        *["Label: Enter a label so that people can recognize the account."] * 2,
    ]


@pytest.mark.slow
def test_a_file_of_100_mb_is_not_read(people):
    page = upload(people.operator, b"Label\n" + b"A\n" * 50_000_000, status=422)
    assert errors(page) == ["The file is too large. Import it in parts."]


def test_text_in_utf_16_without_its_mark_says_why(people):
    page = upload(people.operator, "Label,Proxy\nA,none\n".encode("utf-16-le"), status=422)
    assert errors(page) == ["This is no text file. Save it as CSV (UTF-8) or as XLSX."]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda sheet: sheet.merge_cells("B2:B3"),
            "Cells are merged (B2:B3). Split them and fill in each one.",
        ),
        (
            lambda sheet: sheet.__setitem__("C2", '=CONCAT(A2,"x")'),
            "The formula in C2 has no result. Paste values instead of formulas.",
        ),
        (lambda sheet: sheet.delete_rows(1, 9), "The first row of the file has no column names."),
        (lambda sheet: sheet.delete_rows(2, 9), "The file has column names but no rows."),
    ],
    ids=["merged", "formula", "empty", "only heads"],
)
def test_a_sheet_that_is_no_table_says_why(people, change, said):
    content = xlsx(["label", "proxy", "note"], ["A", "none", ""], ["B", "none", ""], change=change)
    assert errors(upload(people.operator, content, "accounts.xlsx", status=422)) == [said]


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        (b"<c><f>1+1</f><v>2</v></c>", "2"),
        (b'<c r="C2" t="str"><f>IF(1,"","x")</f><v></v></c>', ""),
        (b'<c r="C2" t="str"><f>IF(1,"","x")</f><v/></c>', ""),
    ],
    ids=["number", "empty text", "empty text, shorter"],
)
def test_the_stored_result_of_a_formula_counts(people, cell, label):
    start(people.operator, upload(people.operator, with_note(cell), "accounts.xlsx"))
    assert Account.objects.get().note == label


@pytest.mark.parametrize(
    "cell", [b"<c><f>1+1</f><v/></c>", b'<c t="str"><f>A2</f></c>', b"<x:c><x:f/></x:c>"]
)
def test_a_formula_without_a_stored_result_says_where(people, cell):
    page = upload(people.operator, with_note(cell), "accounts.xlsx", status=422)
    assert errors(page) == ["The formula in C2 has no result. Paste values instead of formulas."]


def test_what_a_comment_of_a_sheet_says_is_no_cell(people):
    cell = b'<!--<mergeCell ref="A1:B2"/><c r="A1"><f>1+1</f></c>--><c t="str"><v>n</v></c>'
    start(people.operator, upload(people.operator, with_note(cell), "accounts.xlsx"))
    assert Account.objects.get().note == "n"


@pytest.mark.parametrize("text", [b"<mergeCell ", b'<c r="A1"', b'<c r="A1"><f>'])
@pytest.mark.slow
def test_a_sheet_is_read_once_from_its_begin_to_its_end(people, text):
    """A search that begins again at each of these would need hours."""
    content = with_note(b"<!--" + text * 200_000 + b"-->")
    assert results(upload(people.operator, content, "accounts.xlsx")) == {2: "added"}


def test_entities_of_a_spreadsheet_are_not_expanded(people):
    content = BytesIO(xlsx(["label", "proxy"], ["A", "none"]))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(
            "xl/worksheets/sheet1.xml", '<!DOCTYPE x [<!ENTITY a "b">]><worksheet>&a;</worksheet>'
        )
    page = upload(people.operator, content.getvalue(), "accounts.xlsx", status=422)
    assert errors(page) == ["This XLSX file can’t be read. Save it again, or save it as CSV."]


def test_two_columns_of_one_name_are_chosen_by_a_person(people):
    page = upload(people.operator, "Label,Label,Proxy\nA,B,none\n", status=422)
    assert errors(page) == ["Two columns are read as “Label”."]
    start(people.operator, page, **{"column-0": ""})
    assert Account.objects.get().label == "B"


# --- round trips ------------------------------------------------------------------------------------------

NASTY = [
    *(
        "=1+1",
        "+49 170",
        "-rack",
        "@home",
        "'x",
        "''=x",
        "＝1",
        "007",
        "1e5",
        "0x10",
        "true",
        "2026-11-27",
        "9:00",
    ),
    *(
        'say "hi"',
        "a,b;c",
        "门店，2",
        "👩‍👩‍👧 night",
        "á",
        "<b>&amp;",
        "%s {x}",
        "\\n",
        "N/A",
        "NULL",
        "None",
        "no",
    ),
]


def filled(people) -> None:
    """Accounts with values that programs like to change, and all columns."""
    policy = RecoveryPolicy.objects.create(name="-gentle")
    for number, text in enumerate(NASTY):
        account = people.account(
            label=text, place=text, note=f"{text}\r\n{text}\t\n\n=end", wc_id=f"@wx-{number}", policy=policy,
            proxy=[None, 4, 99][number % 3], keep_online=bool(number % 2), hours_from="09:00", hours_until="21:30",
            time_zone="Asia/Shanghai", state=AccountState.OFFLINE,
        )  # fmt: skip
        account.tags.set([Tag.objects.create(name=str(number)), Tag.objects.create(name=f"={number}")])


KEPT = (
    "label",
    "place",
    "note",
    "wc_id",
    "policy",
    "proxy",
    "keep_online",
    "hours_from",
    "hours_until",
    "time_zone",
)


def stored() -> list[tuple]:
    tags = [tuple(tag.name for tag in account.tags.all()) for account in Account.objects.order_by("wc_id")]
    rows = [list(row) for row in Account.objects.order_by("wc_id").values_list(*KEPT)]
    for row in rows:
        row[2] = row[2].replace("\r\n", "\n")
    return list(zip(rows, tags, strict=True))


def exported(person) -> bytes:
    return b"".join(person.client.get("/accounts/export.csv"))


def as_xlsx(content: bytes) -> bytes:
    """As a spreadsheet saves a CSV file whose columns were read as text: with its own line ends."""
    rows = csv.reader(StringIO(content.decode("utf-8-sig"), newline=""))
    return xlsx(*([cell.replace("\r\n", "\n") for cell in row] for row in rows), as_text=True)


# Each kind of file is written and read in each language. The other pairs of languages are long.
ROUNDS = [
    ("csv", "en", "zh-hans"),
    ("csv", "zh-hans", "en"),
    ("xlsx", "en", "en"),
    ("xlsx", "zh-hans", "zh-hans"),
]
OTHER_ROUNDS = [
    ("csv", "en", "en"),
    ("csv", "zh-hans", "zh-hans"),
    ("xlsx", "en", "zh-hans"),
    ("xlsx", "zh-hans", "en"),
]


@pytest.mark.parametrize(
    ("kind", "written", "read"),
    [*ROUNDS, *(pytest.param(*languages, marks=pytest.mark.long) for languages in OTHER_ROUNDS)],
)
@pytest.mark.slow
def test_a_round_trip_loses_nothing(people, kind, written, read):
    def file() -> bytes:
        people.operator.client.cookies["django_language"] = written
        content = exported(people.operator)
        people.operator.client.cookies["django_language"] = read
        return as_xlsx(content) if kind == "xlsx" else content

    filled(people)
    assert results(upload(people.operator, file())) == {}
    Account.objects.filter(proxy=99).update(proxy=1)  # a new account gets no proxy that nobody offers
    before, content = stored(), file()
    Account.objects.all().delete()
    start(people.operator, upload(people.operator, content))
    assert stored() == before


# --- rights -----------------------------------------------------------------------------------------------


def test_who_may_import(people, client):
    assert client.get("/accounts/import/").status_code == 302
    assert people.viewer.client.get("/accounts/import/").status_code == 403
    assert people.operator.client.get("/accounts/import/").status_code == 200
    assert "/accounts/import/" in people.operator.client.get("/accounts/").content.decode()
    assert "/accounts/import/" not in people.viewer.client.get("/accounts/").content.decode()


def test_what_comes_back_is_what_was_read(people):
    page = upload(people.operator, "Label,Proxy\nA,none\n")
    start(people.mate, page, status=422)
    start(people.operator, page, status=422, carried=fields(page)["carried"][:-2] + "xx")
    assert not Account.objects.exists()


def test_an_account_that_is_online_already_is_adopted_as_in_the_form(people):
    UnmanagedAccount.objects.create(wc_id="wxid_on", w_id="w-on")
    content = "Label,wcId,Proxy\nA,wxid_on,none\n"
    assert "You can’t enter this wcId." in upload(people.operator, content, status=422)
    start(people.admin, upload(people.admin, content))
    assert Account.objects.get().state == AccountState.ONLINE
    assert not UnmanagedAccount.objects.exists()


@pytest.mark.usually("sqlite", "postgres")
def test_an_account_that_cannot_be_adopted_does_not_undo_the_import(people, monkeypatch):
    go_online = Account.go_online

    def fails(account, *args):
        if account.wc_id == "wxid_2":
            raise OperationalError("the server closed the connection unexpectedly")
        return go_online(account, *args)

    for number in (1, 2, 3):
        UnmanagedAccount.objects.create(wc_id=f"wxid_{number}", w_id=f"w-{number}")
    page = upload(people.admin, "Label,wcId,Proxy\n" + "".join(f"A{n},wxid_{n},none\n" for n in (1, 2, 3)))
    monkeypatch.setattr(Account, "go_online", fails)
    start(people.admin, page)
    states = dict(Account.objects.values_list("wc_id", "state"))
    assert states == {"wxid_1": "online", "wxid_2": "new", "wxid_3": "online"}
    assert [listed.wc_id for listed in UnmanagedAccount.objects.all()] == ["wxid_2"]
    said = people.admin.client.get("/accounts/").content.decode()
    assert "3 accounts added." in said
    assert "1 account that is online already could not be adopted. Adopt it under “Unmanaged”." in said


# --- many -------------------------------------------------------------------------------------------------


def test_the_statements_do_not_grow_with_the_unchanged_rows(people, django_assert_max_num_queries):
    Account.objects.bulk_create(Account(label=f"n{n}", team=people.east) for n in range(300))
    content = "Label,Proxy\n" + "".join(f"n{n},none\n" for n in range(300))
    with django_assert_max_num_queries(40):
        assert "Unchanged: 300" in upload(people.operator, content)


@pytest.mark.slow
@pytest.mark.usually("sqlite", "postgres")
def test_many_rows_are_written_by_few_statements(people, django_assert_max_num_queries):
    def content(version: int) -> str:
        rows = (f'n{n} v{version},wxid_{n:05},none,"t{n % 3}, v{version}"\n' for n in range(300))
        return "Label,wcId,Proxy,Tags\n" + "".join(rows)

    for version in range(2):
        page = upload(people.operator, content(version))
        with django_assert_max_num_queries(50):
            start(people.operator, page)
    assert Account.objects.filter(label__endswith="v1", label_key__startswith="n").count() == 300
    assert {tag.name for tag in Account.objects.get(wc_id="wxid_00001").tags.all()} == {"t1", "v1"}
    assert AccountEvent.objects.filter(happened=EventType.CHANGED, detail="label, tag_names").count() == 300


@pytest.mark.usually("sqlite", "postgres")
def test_a_changed_row_keeps_what_a_login_writes_meanwhile(people):
    account = people.account(label="A", wc_id="wxid_a", state=AccountState.OFFLINE, note="")
    page = upload(people.operator, "Label,wcId,Note,Keep online\nB,wxid_a,n,no\n")
    account.go_online(1, "w-1", timezone.now(), None)
    Account.objects.filter(pk=account.pk).update(nickname="new", pause_reason="old")
    start(people.operator, page)
    account = fresh(account)
    assert (account.label, account.note, account.keep_online, account.pause_reason) == ("B", "n", False, "")
    assert (account.w_id, account.state, account.nickname) == ("w-1", AccountState.ONLINE, "new")
    assert account.label_key == "b" and "b" in account.search_text


@pytest.mark.parametrize(("word", "ends"), [("no", True), ("yes", False)])
def test_keep_online_off_pauses_as_the_button_does(people, word, ends):
    due = timezone.now() + timedelta(days=1)
    waiting = {"state": AccountState.OFFLINE, "relogin_at": due, "queued_for_scan_at": due}
    account = people.account(label="A", wc_id="wxid_a", keep_online=ends, **waiting)
    start(people.operator, upload(people.operator, f"wcId,Keep online\nwxid_a,{word}\n"))
    row, kept = fresh(account), None if ends else due
    assert (row.keep_online, row.relogin_at, row.queued_for_scan_at) == (not ends, kept, kept)


@pytest.mark.parametrize(
    "meanwhile",
    [{"label": "C"}, {"wc_id": "wxid_c"}, {"state": AccountState.ARCHIVED}],
    ids=["renamed", "another wcId", "archived"],
)
def test_an_account_that_is_another_one_by_now_keeps_all_out(people, meanwhile):
    account = people.account(label="A", state=AccountState.OFFLINE)
    found = Import(
        people.operator,
        Table(["Label"] * 3, {2: ["A", "n", ""], 3: ["B", "", "none"]}),
        ["label", "note", "proxy"],
    )
    Account.objects.filter(pk=account.pk).update(**meanwhile)
    assert not import_save.save(found)
    assert fresh(account).note == "" and not Account.objects.filter(label="B").exists()


def test_a_second_click_adds_nothing_twice(people):
    table = Table(["Label", "Proxy"], {2: ["A", "none"]})
    first, second = (Import(people.operator, table, ["label", "proxy"]) for _click in range(2))
    assert import_save.save(first) and not import_save.save(second)
    assert Account.objects.count() == 1
