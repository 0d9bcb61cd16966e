"""How containers share out the people of a data set: one each, the same one for life."""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import tomli_w

from p2prec.config import load_settings
from p2prec.data.catalogue import Catalogue
from p2prec.errors import StateError
from p2prec.manifest import Manifest, dump, reference_catalogue
from p2prec.storage.state import StateDirectory
from p2prec.types import ItemKey

DEPLOY = Path(__file__).parents[2] / "deploy"
CATALOGUE = Catalogue((ItemKey("a"), ItemKey("b")), ("Alien", "Brazil"))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DEPLOY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


entrypoint = load("entrypoint")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    folder = tmp_path / "people"
    (folder / "histories").mkdir(parents=True)
    manifest = Manifest(name="films", catalogue=reference_catalogue(CATALOGUE.canonical_csv(), 2), seed="0" * 64)
    (folder / "swarm.toml").write_text(dump(manifest))
    for person in range(12):
        (folder / "histories" / f"{person:04}.csv").write_text("item,rating,timestamp\na,4.0,1000\nb,2.5,2000\n")
    return folder


def test_no_two_containers_get_one_person(people: Path) -> None:
    with ThreadPoolExecutor(12) as pool:
        claimed = list(pool.map(lambda number: entrypoint.claim(people, f"host token{number}"), range(12)))
    assert sorted(claimed) == [f"{person:04}" for person in range(12)]


def test_a_claim_that_was_cut_short_is_taken_up_again(people: Path) -> None:
    assert entrypoint.claim(people, "host one") == "0000"
    assert entrypoint.claim(people, "host two") == "0001"
    assert entrypoint.claim(people, "host one") == "0000"


def test_too_few_people_is_said_with_a_remedy(people: Path) -> None:
    for number in range(12):
        entrypoint.claim(people, f"host token{number}")
    with pytest.raises(StateError, match="is taken") as caught:
        entrypoint.claim(people, "host more")
    assert "PEOPLE" in caught.value.remedy


def test_a_container_stays_who_it_was(people: Path, tmp_path: Path) -> None:
    directory = StateDirectory.open(tmp_path / "state")
    entrypoint.become_somebody(people, directory)
    with directory.open_store() as store:
        assert store.count_interactions() == 2
        store.forget_all()
    # Another start, recreated under another host name: the same person, and what was forgotten stays forgotten.
    entrypoint.become_somebody(people, directory)
    with directory.open_store() as store:
        assert store.count_interactions() == 0
        assert store.get_meta("container_person") == "0000"
    assert [claim.name for claim in (people / "claims").iterdir()] == ["0000"]


def test_a_container_killed_before_it_had_imported_does_not_take_a_second_person(people: Path, tmp_path: Path) -> None:
    directory = StateDirectory.open(tmp_path / "state")
    with directory.open_store() as store:
        token = store.local_secret("container claim").hex()[:16]
    entrypoint.claim(people, f"the-name-before-it-was-recreated {token}")
    entrypoint.become_somebody(people, directory)
    assert [claim.name for claim in (people / "claims").iterdir()] == ["0000"]
    with directory.open_store() as store:
        assert store.count_interactions() == 2


@pytest.fixture
def testbed_entrypoint(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DEPLOY))
    return load("testbed_entrypoint")


def test_the_testbed_holds_out_the_same_part_of_a_person_in_every_run(
    testbed_entrypoint: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "settings.toml").write_text("holdout_fraction = 0.2\n")
    own, again, other = (
        testbed_entrypoint.own_settings(tmp_path, person, host) for person, host in (("7", "a"), ("7", "b"), ("8", "a"))
    )
    assert own["holdout_secret"] == again["holdout_secret"] != other["holdout_secret"]
    assert own["status_file"] == str(tmp_path / "status" / "7-a.json")
    path = tmp_path / "own.toml"
    path.write_text(tomli_w.dumps(own))
    settings = load_settings(path)
    assert settings.holdout_fraction == 0.2
    assert len(settings.holdout_secret or b"") in range(16, 65)


def test_the_testbed_puts_a_clock_wrong_only_if_told_to(
    testbed_entrypoint: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {})
    testbed_entrypoint.set_clock(tmp_path / "host")
    assert os.environ == {}
    (tmp_path / "host").write_text("-86400\n")
    testbed_entrypoint.set_clock(tmp_path / "host")
    assert os.environ["FAKETIME"] == "-86400s"
    assert os.environ["LD_PRELOAD"].endswith("libfaketime.so.1")


def test_prepared_histories_are_what_a_container_imports(tmp_path: Path) -> None:
    from p2prec.data.synthetic import synthetic_histories

    prepare = load("prepare_people")
    histories = synthetic_histories(3, 20, seed=1)
    folder = tmp_path / "people"
    folder.mkdir()
    prepare.write_histories(folder / "histories", histories)
    prepare.write_manifest(folder / "swarm.toml", histories, 5.0, 0)
    for person in range(3):
        directory = StateDirectory.open(tmp_path / f"state-{person}")
        entrypoint.become_somebody(folder, directory)
        with directory.open_store() as store:
            stored = {row.item: row.value for row in store.interactions()}
        own = histories.of(person)
        keys = [histories.catalogue.keys[item] for item in own.items.tolist()]
        assert stored == dict(zip(keys, own.values.tolist(), strict=True))
