"""The lab's splits: the same seed gives the same parts, and nothing is in both."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from lab_people import crowd, histories_of, rng

from p2prec.data.histories import Histories
from p2prec.errors import DataError
from p2prec.lab.dataset import load, sample_people, take_people
from p2prec.lab.splits import KINDS, LabSplit, split, split_people


def pairs(histories: Histories) -> set[tuple[str, str, float, float]]:
    users = np.repeat(np.array(histories.users), np.diff(histories.offsets))
    keys = [histories.catalogue.keys[item] for item in histories.items]
    return set(zip(users.tolist(), keys, histories.values.tolist(), histories.times.tolist(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_disjoint_and_complete(kind: str) -> None:
    histories = crowd()
    parts = split(histories, kind, rng())
    assert pairs(parts.train).isdisjoint(pairs(parts.test))
    assert pairs(parts.train) | pairs(parts.test) == pairs(histories)
    assert parts.train.users == parts.test.users == histories.users
    assert parts.train.catalogue is histories.catalogue


@pytest.mark.parametrize("kind", KINDS)
def test_seed_decides(kind: str) -> None:
    histories = crowd()
    tests = [pairs(split(histories, kind, rng(seed)).test) for seed in (1, 1, 2)]
    assert tests[0] == tests[1]
    assert (tests[0] == tests[2]) is (kind == "last")  # times decide, not lots


def test_last_is_the_latest() -> None:
    histories = histories_of({"a": [(0, 5, 10), (1, 4, 30), (2, 3, 20)], "b": [(2, 1, 7), (0, 2, 9)]}, 3)
    parts = split(histories, "last", rng())
    assert pairs(parts.test) == {("a", "1", 4, 30), ("b", "0", 2, 9)}
    assert (np.diff(parts.test.offsets) == 1).all()


def test_equal_times_are_decided_by_lot() -> None:
    histories = histories_of({"a": [(0, 1, 5), (1, 1, 5), (2, 1, 1)]}, 3)
    held = {pairs(split(histories, "last", rng(seed)).test).pop()[1] for seed in range(20)}
    assert held == {"0", "1"}


def test_people_whose_history_cannot_be_split_are_left_out() -> None:
    histories = histories_of(
        {"single": [(0, 1, 5)], "timeless": [(0, 1, 0), (1, 1, 0)], "c": [(0, 1, 1), (1, 1, 2)]}, 2
    )
    assert split(histories, "last", rng()).left_out == 2
    assert split(histories, "random-one", rng()).left_out == 1
    names = [[histories.users[i] for i in split_people(histories, kind)] for kind in KINDS]
    assert names == [["c"], ["c", "single", "timeless"], ["c", "timeless"]]


def test_random_holds_a_fifth_of_all_rows_out() -> None:
    histories = crowd()
    assert len(split(histories, "random", rng()).test.items) == round(0.2 * len(histories.items))


def test_nothing_to_split_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        split(histories_of({"a": [(0, 1, 0), (1, 1, 0)]}, 2), "last", rng())


# --- published splits -----------------------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path) -> tuple[Histories, Path]:
    histories = histories_of({"a": [(0, 5, 1), (1, 4, 2), (2, 2, 3)], "b": [(0, 3, 4), (1, 1, 5)]}, 3)
    (tmp_path / "u1.test.csv").write_text("user,item,rating\na,1,4\nb,0,3\n")
    (tmp_path / "u1.base.csv.gz").write_bytes(gzip.compress(b"user,item,rating\na,0,5\nb,1,1\n"))
    return histories, tmp_path


def test_a_test_file_alone_leaves_the_rest_to_learn_from(published: tuple[Histories, Path]) -> None:
    histories, folder = published
    parts = split(histories, str(folder / "u1.test.csv"), rng())
    assert pairs(parts.test) == {("a", "1", 4, 2), ("b", "0", 3, 4)}
    assert len(parts.train.items) == 3


def test_a_pair_of_files_is_taken_as_it_is(published: tuple[Histories, Path]) -> None:
    histories, folder = published
    (folder / "u1.base.csv.gz").rename(folder / "u1.base.csv")
    parts: LabSplit = split(histories, str(folder / "u1.test.csv"), rng())
    assert pairs(parts.train) == {("a", "0", 5, 1), ("b", "1", 1, 5)}  # (a, 2) is in neither file


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("a,9,4", "not in the data set"),
        ("z,1,4", "not in the data set"),
        ("b,2,4", "no interaction"),
        ("a,1,x", "not a number"),
    ],
)
def test_files_that_do_not_fit_the_data_are_refused(published: tuple[Histories, Path], rows: str, reason: str) -> None:
    histories, folder = published
    (folder / "t.csv").write_text(f"user,item,rating\n{rows}\n")
    with pytest.raises(DataError, match=reason):
        split(histories, str(folder / "t.csv"), rng())


def test_files_that_overlap_are_refused(published: tuple[Histories, Path]) -> None:
    histories, folder = published
    (folder / "u1.base.csv").write_text("user,item,rating\na,1,4\n")
    with pytest.raises(DataError, match="share 1 rows"):
        split(histories, str(folder / "u1.test.csv"), rng())


def test_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="last, random, random-one"):
        split(crowd(), "first", rng())


# --- people and data sets ---------------------------------------------------------------------------------------------------


def test_take_people_keeps_rows_with_their_owner() -> None:
    histories = crowd()
    taken = take_people(histories, np.array([5, 2]))
    assert taken.users == (histories.users[5], histories.users[2])
    for new, old in enumerate((5, 2)):
        np.testing.assert_array_equal(taken.of(new).items, histories.of(old).items)
        np.testing.assert_array_equal(taken.of(new).times, histories.of(old).times)


def test_sample_people_is_bounded_by_the_data() -> None:
    histories = crowd(10)
    assert len(sample_people(histories, 10, rng())) == 10
    assert sample_people(histories, None, rng()) is histories
    with pytest.raises(DataError, match="has 10 people"):
        sample_people(histories, 11, rng())


def test_data_sets_are_found_by_path_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "ratings.csv").write_text("user,item,rating\n1,a,3\n1,b,4\n")
    assert load("films", tmp_path, tmp_path).name == "films"
    assert len(load(str(tmp_path / "films"), Path("nowhere"), tmp_path).histories.items) == 2
    with pytest.raises(DataError, match="no data set 'books'"):
        load("books", tmp_path, tmp_path)
