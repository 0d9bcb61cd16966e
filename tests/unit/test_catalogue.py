from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from p2prec.data.catalogue import MAX_KEY_CHARS, MAX_TITLE_CHARS, Catalogue, read_catalogue
from p2prec.errors import DataError
from p2prec.types import ItemKey


def catalogue_of(*items: tuple[str, str]) -> Catalogue:
    return Catalogue(tuple(ItemKey(key) for key, _ in items), tuple(title for _, title in items))


FILMS = catalogue_of(
    ("1", "Toy Story (1995)"),
    ("2", "Godfather, The (1972)"),
    ("3", "Godfather: Part II, The (1974)"),
    ("4", "Amélie (2001)"),
    ("5", "1"),
)


def test_an_item_is_meant_by_its_key_its_title_or_a_part_of_one_title() -> None:
    assert FILMS.resolve("2") == "2"
    assert FILMS.resolve("toy story (1995)") == "1"
    assert FILMS.resolve("  AMÉLIE ") == "4"
    assert FILMS.resolve("part ii") == "3"
    assert FILMS.resolve("1") == "1"  # a key goes before a title


def test_what_matches_several_items_names_them() -> None:
    with pytest.raises(DataError, match="matches 2 items") as error:
        FILMS.resolve("godfather")
    assert "Godfather, The (1972) (key 2)" in error.value.remedy


def test_what_matches_nothing_names_the_nearest() -> None:
    with pytest.raises(DataError, match="no item 'Toy Stroy'") as error:
        FILMS.resolve("Toy Stroy")
    assert "Toy Story (1995) (key 1)" in error.value.remedy
    with pytest.raises(DataError) as error:
        FILMS.resolve("")
    assert "--items" in error.value.remedy


def test_a_title_that_two_items_share_finds_neither() -> None:
    twins = catalogue_of(("a", "Emma"), ("b", "Emma"))
    assert twins.find("emma") is None
    assert twins.find("b") == "b"


def test_the_canonical_form_reads_back_and_quotes_what_it_must() -> None:
    catalogue = catalogue_of(("a,b", 'The "Best", of'), ("ü", "naïve"), ("3", ""))
    text = catalogue.canonical_csv()
    assert text == 'item,title\n"a,b","The ""Best"", of"\nü,naïve\n3,\n'.encode()
    assert Catalogue.from_canonical_csv(text) == catalogue


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"item,title\n",
        b"key,title\n1,a\n",
        b"item,title\n1,a",
        b"item,title\r\n1,a\r\n",
        b'item,title\n"1",a\n',
        b"item,title\n1,a,b\n",
        b"item,title\n1,a\n1,b\n",
        b"item,title\n1,\xff\n",
        b'item,title\n1,"a\n',
        b"item,title\n1,a\x1b[2J\n",
    ],
)
def test_any_other_form_is_refused(text: bytes) -> None:
    with pytest.raises(DataError):
        Catalogue.from_canonical_csv(text)


def test_keys_and_titles_are_bounded() -> None:
    catalogue_of(("k" * MAX_KEY_CHARS, "t" * MAX_TITLE_CHARS))
    for key, title in (("k" * (MAX_KEY_CHARS + 1), "t"), ("k", "t" * (MAX_TITLE_CHARS + 1)), ("", "t"), (" k", "t")):
        with pytest.raises(DataError):
            catalogue_of((key, title))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("items.csv", b"item,title\n1,Toy Story (1995)\n2,Heat\n"),
        ("movies.csv", b"movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n2,Heat,Crime\n"),
        ("u.item", b"1|Toy Story (1995)|01-Jan-1995||http://x\n2|Heat|01-Jan-1995||http://y\n"),
        ("movies.dat", b"1::Toy Story (1995)::Animation\n2::Heat::Crime\n"),
        ("items.jsonl", b'{"item": 1, "title": "Toy Story (1995)"}\n{"item": "2", "title": "Heat"}\n'),
        ("items.tsv", b"title\titem\nToy Story (1995)\t1\nHeat\t2\n"),
        ("shop.csv", b"\xef\xbb\xbfasin;name\r\n1;Toy Story (1995)\r\n2;Heat\r\n"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_catalogues_as_people_have_them(name: str, text: bytes, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(text) if compressed else text)
    expected = catalogue_of(("1", "Toy Story (1995)"), ("2", "Heat"))
    assert read_catalogue(path).catalogue == expected
    if name not in ("items.tsv", "shop.csv"):
        assert read_catalogue(tmp_path).catalogue == expected


def test_latin_1_titles_of_the_old_movielens_sets_are_read(tmp_path: Path) -> None:
    path = tmp_path / "u.item"
    path.write_bytes("1|Misérables, Les (1995)|x\n".encode("latin-1"))
    assert read_catalogue(path).catalogue.titles == ("Misérables, Les (1995)",)


def test_bad_rows_are_reported_by_line_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(b"item,title\n1,a\n,b\n1,again\n" + b"x" * 20_000 + b"\n2,c\n3\x07,d\n")
    found = read_catalogue(path)
    assert found.catalogue == catalogue_of(("1", "a"), ("2", "c"))
    assert [bad.line for bad in found.bad_rows] == [3, 4, 5, 7]
    assert "was there already" in found.bad_rows[1].reason


def test_an_item_without_a_title_is_called_by_its_key(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item\nB000X\n")
    assert read_catalogue(path).catalogue == catalogue_of(("B000X", "B000X"))


@pytest.mark.parametrize("text", [b"", b"item,title\n", b"\x7fELF\0\0", b"x" * 30_000])
def test_what_is_no_catalogue_says_so(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(text)
    with pytest.raises(DataError, match=r"items\.csv"):
        read_catalogue(path)


def test_a_folder_without_a_catalogue_and_a_damaged_gzip_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds none of"):
        read_catalogue(tmp_path)
    path = tmp_path / "items.csv.gz"
    path.write_bytes(gzip.compress(b"item,title\n1,a\n")[:-9])
    with pytest.raises(DataError, match=r"items\.csv\.gz"):
        read_catalogue(path)
    with pytest.raises(DataError, match="No such file"):
        read_catalogue(tmp_path / "absent.csv")
