from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from p2prec.data.catalogue import Catalogue
from p2prec.data.delimited import BadRow
from p2prec.data.files import MAX_LINE_BYTES, read_lines
from p2prec.data.interactions import Interaction
from p2prec.data.readers import Row, parse_time, read_interactions, read_own_interactions
from p2prec.errors import DataError
from p2prec.types import ItemKey

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
FILMS = Catalogue((ItemKey("1"), ItemKey("2")), ("Toy Story (1995)", "Heat (1995)"))


def rows_of(path: Path) -> list[tuple[str | None, Interaction]]:
    return [(row.user, row.interaction) for row in read_interactions(path) if isinstance(row, Row)]


def bad_rows_of(path: Path) -> dict[int, str]:
    return {row.line: row.reason for row in read_interactions(path) if isinstance(row, BadRow)}


def interaction(item: str, value: float | None, time: float, event: str = "rating") -> Interaction:
    return Interaction(ItemKey(item), event, value, time)


TWO_RATINGS = [("7", interaction("1", 4.0, 100.0)), ("7", interaction("2", 3.5, 200.0))]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ratings.csv", "userId,movieId,rating,timestamp\n7,1,4.0,100\n7,2,3.5,200\n"),
        ("ratings.csv", "\ufeffTimestamp,RATING, item ,user\r\n100,4,1,7\r\n\r\n200,3.5,2,7\r\n"),
        ("ratings.csv", '"user","item","rating","timestamp"\n"7","1","4","100"\n"7","2","3.5","200"\n'),
        ("ratings.csv", "user;item;rating;timestamp\n7;1;4;100\n7;2;3.5;200\n"),
        ("u.data", "7\t1\t4\t100\n7\t2\t3.5\t200\n"),
        ("ratings.dat", "7::1::4::100\n7::2::3.5::200\n"),
        ("ratings.csv", "7,1,4,100\n7,2,3.5,200"),
        (
            "ratings.jsonl",
            '{"user": 7, "item": 1, "rating": 4, "timestamp": 100}\n'
            '{"User": "7", "asin": "2", "overall": 3.5, "unixReviewTime": 200}\n',
        ),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_interactions_as_people_have_them(name: str, text: str, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    assert rows_of(path) == TWO_RATINGS
    assert rows_of(tmp_path) == TWO_RATINGS
    assert bad_rows_of(path) == {}


def test_events_quantities_and_missing_times(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("item,event,count,rating\n1,play,3,\n2,,,4\n3,buy,,\n4,rating,,2\n")
    assert [row for _, row in rows_of(path)] == [
        interaction("1", 3.0, 0.0, "play"),
        interaction("2", 4.0, 0.0),
        interaction("3", None, 0.0, "buy"),
        interaction("4", 2.0, 0.0),
    ]
    path.write_text("item\n1\n")
    assert [row for _, row in rows_of(path)] == [interaction("1", None, 0.0, "play")]


def test_bad_rows_are_named_by_line_and_reason_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    rows = [
        "item,rating,timestamp",
        "1,4,100",
        "1,four,100",
        "1,nan,100",
        "1,inf,100",
        "1,,100",
        ",4,100",
        "1,4,yesterday",
        "1,4,-5",
        "1,4,1e300",
        "1,1e7,100",
        "k" * 201 + ",4,100",
        "1," + "4" * (MAX_LINE_BYTES + 5) + ",100",
        "1" + "," * 300,
        '1,"4,100',
        "2,5,100",
    ]
    path.write_text("\n".join(rows))
    assert [row for _, row in rows_of(path)] == [interaction("1", 4.0, 100.0), interaction("2", 5.0, 100.0)]
    bad = bad_rows_of(path)
    assert sorted(bad) == list(range(3, 16))
    assert bad[3] == "'four' is not a number"
    assert "not a finite number" in bad[4]
    assert "empty" in bad[6]
    assert "no item" in bad[7]
    assert "not a time" in bad[8]
    assert "longer than" in bad[13]
    assert "not valid CSV" in bad[15]


def test_bad_json_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"item": "1"}\n{"item": \n[1]\n"x"\n' + "[" * 10_000 + '\n\n{"item": true}\n{"item": "2"}\n')
    assert [row.item for _, row in rows_of(path)] == ["1", "2"]
    assert sorted(bad_rows_of(path)) == [2, 3, 4, 5, 7]


def test_a_line_at_the_limit_is_read_and_a_longer_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a" * (MAX_LINE_BYTES - 1) + b"\n" + b"b" * MAX_LINE_BYTES + b"\n" + b"c" * (MAX_LINE_BYTES + 1))
    lines = list(read_lines(path))
    assert [line.number for line in lines] == [1, 2, 3]
    assert [line.text is None for line in lines] == [False, False, True]


def test_an_endless_line_is_never_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"item\n" + b"x" * (32 << 20) + b"\n1\n", 1))
    tracemalloc.start()
    assert [row.item for _, row in rows_of(path)] == ["1"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("978300760", 978300760.0),
        ("978300760.5", 978300760.5),
        ("1732472345678", 1732472345.678),
        ("1732472345678901", 1732472345.678901),
        ("1970-01-02", 86400.0),
        ("1970-01-01T01:00:00Z", 3600.0),
        ("1970-01-01T01:00+01:00", 0.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "12:30"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        parse_time(text)


# One person's rows, with the swarm's keys


def own(path: Path, user: str | None = None) -> list[Interaction | BadRow]:
    return list(read_own_interactions(path, FILMS, user))


def test_items_are_named_by_key_or_title_and_unknown_ones_are_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("item,rating\n2,4\ntoy story (1995),5\n3,1\n")
    assert own(path) == [
        interaction("2", 4.0, 0.0),
        interaction("1", 5.0, 0.0),
        BadRow(4, "no item '3' in the swarm's catalogue"),
    ]


def test_a_file_of_several_people_needs_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("user,item,rating\n" + "".join(f"u{n},1,4\n" for n in range(9)))
    with pytest.raises(DataError, match="several people") as error:
        own(path)
    assert error.value.remedy == "say whose: --user u0, u1, u2, u3, u4, ..."
    assert own(path, "u8") == [interaction("1", 4.0, 0.0)]
    with pytest.raises(DataError, match="no row of user 'me'"):
        own(path, "me")


def test_a_folder_s_own_titles_decide_where_its_keys_mean_something_else(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId,title\n1,Toy Story (1995)\n2,Jumanji (1995)\n6,Heat (1995)\n")
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating\n1,1,5\n1,2,1\n1,6,4\n")
    assert own(tmp_path) == [
        interaction("1", 5.0, 0.0),
        BadRow(3, "no item '2' (Jumanji (1995)) in the swarm's catalogue"),
        interaction("2", 4.0, 0.0),
    ]


def test_progress_is_reported_in_bytes_of_the_file_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "h.csv.gz"
    keys = np.random.default_rng(0).integers(0, 10**9, 20_000)  # hard to compress, so that the file has several buffers
    path.write_bytes(gzip.compress(b"item\n" + b"".join(b"%d\n" % key for key in keys)))
    seen: list[int] = []
    assert sum(1 for _ in read_interactions(path, seen.append)) == 20_000
    assert seen == sorted(seen)
    assert 0 < seen[0] < seen[-1] <= path.stat().st_size


@pytest.mark.parametrize(
    ("text", "reason"), [("", "empty"), ("\n \n", "empty"), ("1,2\n", "no header"), ("\0\0", "not a text file")]
)
def test_what_cannot_be_read_at_all_says_so(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        rows_of(path)


def test_missing_files_empty_folders_and_truncated_gzip_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        rows_of(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="holds none of"):
        rows_of(tmp_path)
    path = tmp_path / "h.csv.gz"
    path.write_bytes(gzip.compress(b"item\n" + b"1\n" * 10_000)[:-12])
    with pytest.raises(DataError, match=r"h\.csv\.gz"):
        rows_of(path)


@pytest.mark.skipif(not (REAL_DATA / "ml-100k").is_dir(), reason="the MovieLens data is not beside the checkout")
def test_movielens_as_it_is_laid_out_here() -> None:
    from p2prec.data.histories import read_histories

    histories = read_histories(REAL_DATA / "ml-100k")
    assert (len(histories), len(histories.catalogue), len(histories.items)) == (943, 1682, 100_000)
