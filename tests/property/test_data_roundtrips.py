"""What is written reads back as it was, for any content within the bounds."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from p2prec.data.catalogue import Catalogue, read_catalogue
from p2prec.data.delimited import BadRow
from p2prec.data.interactions import MAX_TIME, Interaction
from p2prec.data.readers import read_interactions
from p2prec.errors import DataError
from p2prec.manifest import Manifest, dump, parse, reference_catalogue
from p2prec.privacy.accountant import epsilon, log_delta
from p2prec.storage.store import Store
from p2prec.types import ItemKey

visible = st.characters(exclude_categories=["C", "Z"])
keys = st.text(visible, min_size=1, max_size=30)
titles = st.text(visible | st.just(" "), max_size=60)
catalogues = st.dictionaries(keys, titles, min_size=1, max_size=20).map(
    lambda items: Catalogue(tuple(ItemKey(key) for key in items), tuple(items.values()))
)
interactions = st.builds(
    Interaction,
    item=keys.map(ItemKey),
    event=st.sampled_from(["rating", "play", "größe"]),
    value=st.none() | st.floats(-1e6, 1e6),
    time=st.floats(0, MAX_TIME, exclude_max=True),
).map(lambda row: Interaction(row.item, "play", None, row.time) if row.event == "rating" and row.value is None else row)


@given(catalogues)
def test_a_catalogue_survives_its_canonical_form_and_a_manifest(catalogue: Catalogue) -> None:
    text = catalogue.canonical_csv()
    assert Catalogue.from_canonical_csv(text) == catalogue
    manifest = Manifest(name="x", catalogue=reference_catalogue(text, len(catalogue)), seed="00" * 32)
    assert parse(dump(manifest)).catalogue_csv() == text


@given(st.binary(max_size=300))
def test_canonical_reading_accepts_only_what_it_would_write(text: bytes) -> None:
    try:
        catalogue = Catalogue.from_canonical_csv(b"item,title\n" + text)
    except DataError:
        return
    assert catalogue.canonical_csv() == b"item,title\n" + text


@given(st.binary(max_size=500))
def test_any_bytes_give_rows_bad_rows_or_an_error_of_ours(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for text in (content, b"item,rating,timestamp\n" + content, b'{"item": "1"}\n' + content):
            path.write_bytes(text)
            try:
                n_lines = text.count(b"\n") + 1
                assert all(1 <= row.line <= n_lines for row in read_interactions(path))
                read_catalogue(path)
            except DataError:
                pass


@given(st.lists(interactions, max_size=15))
def test_interactions_survive_a_csv_file(history: list[Interaction]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("item", "event", "value", "timestamp"))
    # Times in seconds only: larger numbers would count as milliseconds.
    history = [row for row in history if row.time < 1e11]
    writer.writerows(
        (row.item, row.event, "" if row.value is None else repr(row.value), repr(row.time)) for row in history
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.csv"
        path.write_text(out.getvalue(), encoding="utf-8")
        found = list(read_interactions(path))
    assert [row.interaction for row in found if not isinstance(row, BadRow)] == history


@settings(max_examples=40, deadline=None)
@given(st.lists(interactions, max_size=15), st.data())
def test_the_store_is_a_list_without_doubles(history: list[Interaction], data: st.DataObject) -> None:
    expected = list(dict.fromkeys(history))
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "s.sqlite3") as store:
        result = store.add_interactions(history)
        assert (result.added, result.already_present) == (len(expected), len(history) - len(expected))
        assert store.interactions() == expected
        if expected:
            item = data.draw(st.sampled_from(expected)).item
            assert store.forget(item) == sum(row.item == item for row in expected)
            assert store.interactions() == [row for row in expected if row.item != item]


@given(st.floats(1e-4, 1e4), st.integers(1, 10_000), st.floats(1e-12, 0.5))
def test_epsilon_is_the_smallest_that_delta_allows(sigma: float, n: int, delta: float) -> None:
    found = epsilon(sigma, n, delta)
    mu = math.sqrt(n) / sigma
    assert log_delta(mu, found) <= math.log(delta)
    if found > 0:
        assert log_delta(mu, found * (1 - 1e-6)) > math.log(delta)
    assert epsilon(sigma, n + 1, delta) >= found
    assert epsilon(sigma * 1.01, n, delta) <= found
