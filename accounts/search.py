"""Accounts by words: an index of neighbouring characters, which the database itself keeps true.

A word may stand anywhere in a name, and a Chinese one has two characters: no index of words or of triples finds
it. Here every character and every pair of neighbours leads to the accounts that have it, and a word is where all
its pairs are. Triggers follow each change, a bulk UPDATE too. Letters are folded as the database's LIKE folds
them: PostgreSQL knows the case of all, SQLite that of a to z. No extension is needed, nor a right beyond that to
make tables; where the index could not be made, `is_there` says so and a search reads every account.
"""

# ruff: noqa: S608 - the names in these statements are constants of this module
import logging

from django.db import DatabaseError, connection, models, transaction

log = logging.getLogger(__name__)

_there: dict[str, bool] = {}

TABLE, ACCOUNTS = "accounts_search", "accounts_account"
COLUMNS = ("label", "nickname", "wc_id", "wechat_number")
CATALOGUES = {"postgresql": ("pg_trigger", "tgname"), "sqlite": ("sqlite_master", "name")}
TRIGGERS = (f"{TABLE}_added", f"{TABLE}_changed", f"{TABLE}_gone")


class SearchedText(models.TextField):
    """What the index knows of an account: to be asked by the lookup `has`, with a tuple of words, never read."""


@SearchedText.register_lookup
class Has(models.Lookup):
    """Every one of the words is within one of the columns."""

    lookup_name = "has"
    prepare_rhs = False

    def as_sqlite(self, compiler, connection) -> tuple[str, list[str]]:
        text, _none = self.process_lhs(compiler, connection)
        return f"{text} MATCH %s", [" AND ".join(map(_phrase, self.rhs))]

    def as_postgresql(self, compiler, connection) -> tuple[str, list[str]]:
        """The pairs lead to few rows; whether they are neighbours there, the text itself tells."""
        text, _none = self.process_lhs(compiler, connection)
        pairs = f"{compiler.quote_name_unless_alias(self.lhs.alias)}.pairs"
        one = f"{pairs} @> accounts_search_pairs(UPPER(%s)) AND STRPOS({text}, UPPER(%s)) > 0"
        return " AND ".join([one] * len(self.rhs)), [word for word in self.rhs for _mark in range(2)]


class Searched(models.Model):
    """The index as a table, one row for each account. Only triggers write it.

    Ask it in a subquery: SQLite evaluates that once, while of a join it may make one search for each account.
    """

    account_id = models.BigIntegerField(primary_key=True, db_column="rowid")
    text = SearchedText()

    class Meta:
        managed = False
        db_table = TABLE
        default_permissions = ()

    def __str__(self) -> str:
        return f"words of {self.account_id}"


def words_of(text: str) -> tuple[str, ...]:
    """What a search asks for: at most six words."""
    return tuple(text.split()[:6])


def every(words: tuple[str, ...]) -> models.QuerySet:
    """The ids of all accounts that have the words, for a subquery.

    The limit limits nothing; it keeps PostgreSQL from asking for the words once for each account.
    """
    return Searched.objects.filter(text__has=words).values("pk")[: 2**31]


def first(text: str, number: int) -> list[int] | None:
    """The ids of up to so many accounts that have all the words; None without an index."""
    if not is_there():
        return None
    return list(every(words_of(text)).values_list("pk", flat=True)[:number])


def is_there() -> bool:
    """Whether this database has the index and the triggers that keep it true; looked at once in each process."""
    if connection.vendor not in _there:
        _there[connection.vendor] = _is_followed()
        if not _there[connection.vendor]:
            log.warning("This database has no index for searches: each one reads all accounts.")
    return _there[connection.vendor]


def _is_followed() -> bool:
    names, column = CATALOGUES[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {names} WHERE {column} IN (%s, %s, %s)", TRIGGERS)
        return cursor.fetchone()[0] == len(TRIGGERS)


def make(apps, schema_editor) -> None:
    """Make the index, or make it anew. For migrations."""
    _run(schema_editor.connection, "make")


def drop(apps, schema_editor) -> None:
    _run(schema_editor.connection, "drop")


def mend() -> None:
    """Make the index anew if its triggers are gone.

    They are after a migration that changes the table of accounts: SQLite makes another table in its place.
    """
    _there.clear()
    if TABLE in connection.introspection.table_names() and not _is_followed():
        _run(connection, "make")


def _run(connection, what: str) -> None:
    _there.clear()
    try:
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            for statement in STATEMENTS[connection.vendor, what]:
                cursor.execute(statement)
    except DatabaseError as error:
        log.warning("No index for searches, each one will read all accounts: %s", error)


# --- SQLite: full-text tokens, one for each pair -----------------------------------------------------------


def _phrase(word: str) -> str:
    """The pairs of a word one after another, as FTS5 is asked for them; one character is how some pair begins."""
    folded = "".join(letter.lower() if letter.isascii() else letter for letter in word)
    if len(folded) == 1:
        return f"{folded.encode().hex()}*"
    return f'"{" ".join(folded[at : at + 2].encode().hex() for at in range(len(folded) - 1))}"'


def _tokens(row: str) -> str:
    """Each pair in hexadecimal, so that FTS5 takes it for a word. Line ends part the columns; no word has one."""
    text = " || ".join(f"coalesce({row}.{column}, '') || char(10)" for column in COLUMNS)
    return (
        f"(WITH RECURSIVE at(n, text) AS (SELECT 1, lower({text}) UNION ALL"
        " SELECT n + 1, text FROM at WHERE n < length(text))"
        " SELECT group_concat(pair, ' ') FROM (SELECT hex(substr(text, n, 2)) AS pair FROM at ORDER BY n))"
    )


_ADD = f"INSERT INTO {TABLE} (rowid, text) VALUES (NEW.id, {_tokens('NEW')});"
_TAKE = f"INSERT INTO {TABLE} ({TABLE}, rowid, text) VALUES ('delete', OLD.id, {_tokens('OLD')});"
_CHANGED = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in COLUMNS)
_DROP_SQLITE = (
    *(f"DROP TRIGGER IF EXISTS {trigger}" for trigger in TRIGGERS),
    f"DROP TABLE IF EXISTS {TABLE}",
)
_MAKE_SQLITE = (
    *_DROP_SQLITE,
    # The prefixes are single characters: of one byte, and of three as Chinese has them.
    f"CREATE VIRTUAL TABLE {TABLE} USING fts5(text, content='', columnsize=0, prefix='2 6', tokenize='ascii')",
    f"INSERT INTO {TABLE} (rowid, text) SELECT id, {_tokens(ACCOUNTS)} FROM {ACCOUNTS}",
    f"CREATE TRIGGER accounts_search_added AFTER INSERT ON {ACCOUNTS} BEGIN {_ADD} END",
    f"CREATE TRIGGER accounts_search_changed AFTER UPDATE OF {', '.join(COLUMNS)} ON {ACCOUNTS}"
    f" WHEN {_CHANGED} BEGIN {_TAKE} {_ADD} END",
    f"CREATE TRIGGER accounts_search_gone AFTER DELETE ON {ACCOUNTS} BEGIN {_TAKE} END",
)

# --- PostgreSQL: an inverted index over arrays of pairs ----------------------------------------------------

_TEXT = "UPPER(" + " || ".join(f"COALESCE({{row}}.{column}, '') || E'\\n'" for column in COLUMNS) + ")"
_PAIRS = "accounts_search_pairs({text}) || ARRAY(SELECT DISTINCT unnest(string_to_array({text}, NULL)))"
_DROP_POSTGRES = (
    *(f"DROP TRIGGER IF EXISTS {trigger} ON {ACCOUNTS}" for trigger in (*TRIGGERS, f"{TABLE}_emptied")),
    f"DROP FUNCTION IF EXISTS {TABLE}_follow()",
    f"DROP TABLE IF EXISTS {TABLE}",
    f"DROP FUNCTION IF EXISTS {TABLE}_pairs(text)",
)
_FOLLOW = f"FOR EACH ROW EXECUTE FUNCTION {TABLE}_follow()"
_MAKE_POSTGRES = (
    *_DROP_POSTGRES,
    f"""CREATE FUNCTION {TABLE}_pairs(word text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT CASE WHEN length(word) = 1 THEN ARRAY[word]
        ELSE ARRAY(SELECT DISTINCT substr(word, n, 2) FROM generate_series(1, length(word) - 1) AS n) END
    $$""",
    # A table of its own: that of the accounts changes with every login, and each change would write all pairs.
    f"""CREATE TABLE {TABLE} (
        rowid bigint PRIMARY KEY, text text COLLATE "C" NOT NULL, pairs text[] COLLATE "C" NOT NULL
    )""",
    f"""INSERT INTO {TABLE} SELECT id, text, {_PAIRS.format(text="text")}
        FROM (SELECT id, {_TEXT.format(row=ACCOUNTS)} AS text FROM {ACCOUNTS}) AS accounts""",
    f"CREATE INDEX {TABLE}_pairs ON {TABLE} USING gin (pairs) WITH (fastupdate = off)",
    f"ANALYZE {TABLE}",
    f"""CREATE FUNCTION {TABLE}_follow() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    DECLARE
        folded text;
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            TRUNCATE {TABLE};
        ELSIF TG_OP = 'DELETE' THEN
            DELETE FROM {TABLE} WHERE rowid = OLD.id;
        ELSE
            folded := {_TEXT.format(row="NEW")};
            INSERT INTO {TABLE} VALUES (NEW.id, folded, {_PAIRS.format(text="folded")})
            ON CONFLICT (rowid) DO UPDATE SET text = EXCLUDED.text, pairs = EXCLUDED.pairs;
        END IF;
        RETURN NULL;
    END
    $$""",
    f"CREATE TRIGGER {TABLE}_added AFTER INSERT ON {ACCOUNTS} {_FOLLOW}",
    f"CREATE TRIGGER {TABLE}_changed AFTER UPDATE OF {', '.join(COLUMNS)} ON {ACCOUNTS} FOR EACH ROW"
    f" WHEN (({', '.join(f'OLD.{column}' for column in COLUMNS)}) IS DISTINCT FROM"
    f" ({', '.join(f'NEW.{column}' for column in COLUMNS)})) EXECUTE FUNCTION {TABLE}_follow()",
    f"CREATE TRIGGER {TABLE}_gone AFTER DELETE ON {ACCOUNTS} {_FOLLOW}",
    f"CREATE TRIGGER {TABLE}_emptied AFTER TRUNCATE ON {ACCOUNTS} EXECUTE FUNCTION {TABLE}_follow()",
)

STATEMENTS = {
    ("sqlite", "make"): _MAKE_SQLITE,
    ("sqlite", "drop"): _DROP_SQLITE,
    ("postgresql", "make"): _MAKE_POSTGRES,
    ("postgresql", "drop"): _DROP_POSTGRES,
}
