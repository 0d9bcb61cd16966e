"""The swarm's items, in the order of the model's rows: keys that identify them and titles that people read."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from p2prec.data.delimited import BadRow, read_records
from p2prec.data.files import find_file
from p2prec.errors import DataError
from p2prec.types import ItemKey

MAX_ITEMS = 1_000_000
MAX_KEY_CHARS = 200
MAX_TITLE_CHARS = 500
_N_CANDIDATES = 5

ITEM_COLUMNS = (
    "item",
    "movieid",
    "item_id",
    "itemid",
    "movie_id",
    "asin",
    "isbn",
    "parent_asin",
    "track_id",
    "key",
    "id",
)
"""Header names of the column that identifies an item, best first, in lower case."""
TITLE_COLUMNS = ("title", "name", "movie_title", "item_name", "description")
CATALOGUE_FILES = ("items.csv", "movies.csv", "u.item", "movies.dat", "items.jsonl")


@dataclass(frozen=True)
class Catalogue:
    """Item keys and titles; row i of every table of the model belongs to `keys[i]`.

    Raises DataError when it is empty, too large, or has a key twice or one that is not printable.
    """

    keys: tuple[ItemKey, ...]
    titles: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.titles):
            raise DataError(f"the catalogue has {len(self.keys)} keys but {len(self.titles)} titles")
        if not 1 <= len(self.keys) <= MAX_ITEMS:
            raise DataError(f"a catalogue has 1 to {MAX_ITEMS:,} items, not {len(self.keys):,}")
        for key, title in zip(self.keys, self.titles, strict=True):
            problem = item_problem(key, title)
            if problem:
                raise DataError(f"item {key[:40]!r}: {problem}")
        if len(self._index) != len(self.keys):
            twice = next(key for row, key in enumerate(self.keys) if self._index[key] != row)
            raise DataError(f"item {twice!r} is in the catalogue twice")

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    @cached_property
    def _index(self) -> Mapping[ItemKey, int]:
        return {key: row for row, key in enumerate(self.keys)}

    @cached_property
    def _rows_by_title(self) -> Mapping[str, list[int]]:
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, title in enumerate(self.titles):
            rows[title.casefold()].append(row)
        return rows

    def index_of(self, key: ItemKey) -> int:
        """The model row of an item. Raises KeyError."""
        return self._index[key]

    def title_of(self, key: ItemKey) -> str:
        """The title of an item. Raises KeyError."""
        return self.titles[self._index[key]]

    def find(self, text: str) -> ItemKey | None:
        """The item with this key or, failing that, with exactly this title (case ignored), if it is the only one."""
        if text in self._index:
            return ItemKey(text)
        rows = self._rows_by_title.get(text.casefold(), ())
        return self.keys[rows[0]] if len(rows) == 1 else None

    def resolve(self, text: str) -> ItemKey:
        """The item that a person means by `text`: an exact key, else a title, else a part of exactly one title (case
        ignored).

        Raises DataError that names the nearest candidates when none or several match.
        """
        text = text.strip()
        found = self.find(text)
        if found is not None:
            return found
        wanted = text.casefold()
        rows = self._rows_by_title.get(wanted, [])
        if not rows and wanted:
            rows = [row for title, found in self._rows_by_title.items() if wanted in title for row in found]
        if len(rows) == 1:
            return self.keys[rows[0]]
        if rows:
            raise DataError(f"{text!r} matches {len(rows)} items", remedy=self._suggest(sorted(rows)))
        raise DataError(f"no item {text!r} in the swarm's catalogue", remedy=self._suggest(self._nearest(wanted)))

    def _nearest(self, wanted: str) -> list[int]:
        """Rows whose titles resemble `wanted`. Only titles that share a word start are compared: difflib is slow."""
        starts = tuple({word[:3] for word in wanted.split()})
        near = {title: rows for title, rows in self._rows_by_title.items() if any(start in title for start in starts)}
        import difflib  # not above: the daemon never asks

        names = difflib.get_close_matches(wanted, list(near)[:5000], _N_CANDIDATES, 0.4)
        return [row for name in names for row in near[name]]

    def _suggest(self, rows: list[int]) -> str:
        if not rows:
            return "items are named by key or title, as in the catalogue: p2prec swarm show --items"
        named = "; ".join(f"{self.titles[row]} (key {self.keys[row]})" for row in rows[:_N_CANDIDATES])
        more = f"; and {len(rows) - _N_CANDIDATES} more" if len(rows) > _N_CANDIDATES else ""
        return f"did you mean: {named}{more}"

    def canonical_csv(self) -> bytes:
        """The one form of this catalogue that is hashed: UTF-8, `\\n`, header `item,title`, quoted only where CSV
        must be."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(("item", "title"))
        writer.writerows(zip(self.keys, self.titles, strict=True))
        return out.getvalue().encode()

    @classmethod
    def from_canonical_csv(cls, text: bytes) -> Catalogue:
        """Read `canonical_csv` back. Raises DataError when the text is not canonical: two texts of one catalogue
        would make two swarm ids."""
        try:
            rows = list(csv.reader(io.StringIO(text.decode("utf-8"), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"not a canonical catalogue: {error}") from error
        if not rows or rows[0] != ["item", "title"] or any(len(row) != 2 for row in rows):
            raise DataError("not a canonical catalogue: the rows must be item,title under that header")
        catalogue = cls(tuple(ItemKey(row[0]) for row in rows[1:]), tuple(row[1] for row in rows[1:]))
        if catalogue.canonical_csv() != text:
            raise DataError("not a canonical catalogue: quoting or newlines differ from the canonical form")
        return catalogue


def item_problem(key: str, title: str) -> str | None:
    """Why an item may not be in a catalogue, or None. Keys and titles reach terminals, so control characters are
    refused."""
    if not key or key != key.strip():
        return "its key is empty or has spaces around it"
    if len(key) > MAX_KEY_CHARS:
        return f"its key is longer than {MAX_KEY_CHARS} characters"
    if len(title) > MAX_TITLE_CHARS:
        return f"its title is longer than {MAX_TITLE_CHARS} characters"
    if not (key.isprintable() and title.isprintable()):
        return "its key or title has control characters"
    return None


@dataclass(frozen=True)
class CatalogueFile:
    """What `read_catalogue` found."""

    catalogue: Catalogue
    bad_rows: tuple[BadRow, ...]


def read_catalogue(path: Path) -> CatalogueFile:
    """Read a catalogue from CSV or JSON lines (columns item and title, or names alike), MovieLens' movies.csv,
    movies.dat or u.item, each plain or gzip, or a folder that holds one.

    Rows that cannot be items, and repeated keys, are reported and skipped. Raises DataError when nothing is left.
    """
    file = path
    if path.is_dir():
        found = find_file(path, CATALOGUE_FILES)
        if found is None:
            raise DataError(f"{path}: holds none of {', '.join(CATALOGUE_FILES)} (plain or .gz)")
        file = found
    items: dict[ItemKey, str] = {}
    bad_rows: list[BadRow] = []
    for row in _items(file):
        if isinstance(row, BadRow):
            bad_rows.append(row)
        elif row[0] in items:
            bad_rows.append(BadRow(row[2], f"item {row[0][:40]!r} was there already"))
        elif len(items) == MAX_ITEMS:
            raise DataError(f"{file}: more than {MAX_ITEMS:,} items")
        else:
            items[row[0]] = row[1]
    if not items:
        reason = f"; line {bad_rows[0].line}: {bad_rows[0].reason}" if bad_rows else ""
        raise DataError(
            f"{file}: no item in it{reason}", remedy="a catalogue is a CSV file with the columns item,title"
        )
    return CatalogueFile(Catalogue(tuple(items), tuple(items.values())), tuple(bad_rows))


def _items(file: Path) -> Iterator[tuple[ItemKey, str, int] | BadRow]:
    for row in read_records(file, ("item", "title"), frozenset(ITEM_COLUMNS)):
        if isinstance(row, BadRow):
            yield row
            continue
        key = first_present(row.fields, ITEM_COLUMNS)
        if key is None:
            yield BadRow(row.line, "no item key")
            continue
        title = " ".join((first_present(row.fields, TITLE_COLUMNS) or key).split())[:MAX_TITLE_CHARS]
        problem = item_problem(key, title)
        yield BadRow(row.line, problem) if problem else (ItemKey(key), title, row.line)


def first_present(fields: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    """The first of the named fields that has text (or a number), stripped."""
    for name in names:
        if name not in fields:
            continue
        value = fields[name]
        if isinstance(value, str):
            if text := value.strip():
                return text
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    return None
