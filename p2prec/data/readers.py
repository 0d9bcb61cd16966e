"""Reading interactions from files as people have them: CSV, JSON lines, MovieLens' folders; gzip or not.

One bad row never stops a file: it is yielded as a `BadRow` with its line number and reason. What cannot be read at
all raises DataError.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from p2prec.data.catalogue import CATALOGUE_FILES, ITEM_COLUMNS, Catalogue, first_present, read_catalogue
from p2prec.data.delimited import BadRow, read_records
from p2prec.data.files import OnBytes, find_file
from p2prec.data.interactions import RATING, Interaction, interaction_problem
from p2prec.errors import DataError
from p2prec.types import ItemKey

INTERACTION_FILES = ("ratings.csv", "u.data", "ratings.dat", "interactions.csv", "interactions.jsonl", "ratings.jsonl")
USER_COLUMNS = ("user", "userid", "user_id", "customer", "customer_id", "reviewerid", "reviewer_id")
RATING_COLUMNS = ("rating", "stars", "score", "overall")
EVENT_COLUMNS = ("event", "event_type", "action")
QUANTITY_COLUMNS = ("value", "count", "quantity", "plays")
TIME_COLUMNS = ("timestamp", "time", "at", "date", "datetime", "unixreviewtime", "ts")
DEFAULT_EVENT = "play"
"""The event of rows that have neither an event nor a rating column."""
UNKNOWN_TIME = 0.0
"""The time of rows without one: earlier than everything, and the same at every import, so that none is doubled."""
_HEADERLESS = ("user", "item", "rating", "timestamp")
_MILLISECONDS_FROM = 1e11
"""A larger number of seconds would lie beyond the year 5138: it counts milliseconds (or microseconds, from 1e14)."""
_N_USERS_NAMED = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One good row."""

    line: int
    """Line number in its file, from 1."""
    user: str | None
    """Whose it is, when the file says so."""
    interaction: Interaction


def interactions_file(path: Path) -> Path:
    """The file of interactions itself: `path`, or the one in the folder `path`. Raises DataError."""
    if not path.is_dir():
        return path
    found = find_file(path, INTERACTION_FILES)
    if found is None:
        raise DataError(f"{path}: holds none of {', '.join(INTERACTION_FILES)} (plain or .gz)")
    return found


def read_interactions(path: Path, on_bytes: OnBytes | None = None) -> Iterator[Row | BadRow]:
    """Every row of a file or folder, in its order, with item keys as the file has them.

    Columns are found by name (`ITEM_COLUMNS` and so on, case ignored); without a header they are user, item, rating,
    timestamp.
    Times: seconds, milliseconds or microseconds since 1970, or ISO 8601 (UTC unless it says otherwise).
    """
    for record in read_records(interactions_file(path), _HEADERLESS, frozenset(ITEM_COLUMNS), on_bytes):
        if isinstance(record, BadRow):
            yield record
            continue
        try:
            yield Row(record.line, first_present(record.fields, USER_COLUMNS), _interaction(record.fields))
        except ValueError as error:
            yield BadRow(record.line, str(error))


def read_own_interactions(
    path: Path, catalogue: Catalogue, user: str | None = None, on_bytes: OnBytes | None = None
) -> Iterator[Interaction | BadRow]:
    """One person's rows of a file or folder, with the swarm's item keys; rows of items that the swarm lacks are bad
    rows.

    Items are named by key or by title. A folder that has titles of its own (MovieLens) is matched by title where its
    key means something else than the swarm's. user: whose rows, for files of several people; DataError when it is
    needed or not there.
    """
    titles = _titles_of(path)
    seen_user: str | None = None
    for row in read_interactions(path, on_bytes):
        if isinstance(row, BadRow):
            yield row
            continue
        if user is not None and row.user != user:
            continue
        if seen_user is not None and row.user != seen_user:
            raise DataError(
                f"{path}: has several people's interactions", remedy=f"say whose: --user {_some_users(path)}"
            )
        seen_user = row.user
        yield _translated(row, titles, catalogue)
    if user is not None and seen_user is None:
        raise DataError(f"{path}: no row of user {user!r}", remedy=f"it has these: {_some_users(path)}")


def _interaction(fields: Mapping[str, object]) -> Interaction:
    """Raises ValueError with the reason."""
    item = first_present(fields, ITEM_COLUMNS)
    if item is None:
        raise ValueError("no item")
    rating = first_present(fields, RATING_COLUMNS)
    event = first_present(fields, EVENT_COLUMNS)
    if event is None:
        event = RATING if any(name in fields for name in RATING_COLUMNS) else DEFAULT_EVENT
    value = rating if event == RATING else first_present(fields, QUANTITY_COLUMNS)
    if event == RATING and value is None:
        value = first_present(fields, ("value",))
        if value is None:
            raise ValueError("the rating is empty")
    interaction = Interaction(ItemKey(item), event, _number(value), _time(first_present(fields, TIME_COLUMNS)))
    problem = interaction_problem(interaction)
    if problem:
        raise ValueError(problem)
    return interaction


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]!r} is not a finite number")
    return number


def parse_time(text: str, *, zone: tzinfo | None = UTC) -> float:
    """Seconds since 1970, UTC, of a number (seconds, milliseconds or microseconds) or an ISO 8601 text.

    zone: of texts that name none; None: this machine's. Raises ValueError.
    """
    try:
        number = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text[:40]!r} is not a time (seconds since 1970, or like 2026-11-24T18:30)") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    if number >= 1000 * _MILLISECONDS_FROM:
        return number / 1e6
    return number / 1e3 if number >= _MILLISECONDS_FROM else number


def _time(text: str | None) -> float:
    return UNKNOWN_TIME if text is None else parse_time(text)


def _titles_of(path: Path) -> Mapping[ItemKey, str]:
    if not path.is_dir() or find_file(path, CATALOGUE_FILES) is None:
        return {}
    own = read_catalogue(path).catalogue
    return dict(zip(own.keys, own.titles, strict=True))


def _translated(row: Row, titles: Mapping[ItemKey, str], catalogue: Catalogue) -> Interaction | BadRow:
    interaction = row.interaction
    title = titles.get(interaction.item)
    key = catalogue.find(interaction.item)
    if title is not None and (key is None or catalogue.title_of(key).casefold() != title.casefold()):
        key = catalogue.find(title)
    if key is None:
        named = f"{interaction.item[:40]!r}" + (f" ({title})" if title else "")
        return BadRow(row.line, f"no item {named} in the swarm's catalogue")
    return Interaction(key, interaction.event, interaction.value, interaction.time)


def _some_users(path: Path) -> str:
    users: dict[str, None] = {}
    for row in read_interactions(path):
        if isinstance(row, Row) and row.user is not None:
            users[row.user] = None
        if len(users) > _N_USERS_NAMED:
            break
    named = list(users)
    return ", ".join(named[:_N_USERS_NAMED]) + (", ..." if len(named) > _N_USERS_NAMED else "")
