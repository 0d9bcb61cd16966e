from __future__ import annotations

import base64
import hashlib
import zlib
from pathlib import Path

import msgpack
import msgspec
import pytest

from p2prec import manifest as manifests
from p2prec.errors import ManifestError
from p2prec.manifest import (
    LearningParameters,
    Manifest,
    PrivacyParameters,
    Promise,
    dump,
    load,
    parse,
    recommended,
    reference_catalogue,
)
from p2prec.privacy.plan import MIN_PEOPLE, PrivacyPlan

CSV = b"item,title\n1,Toy Story (1995)\n"
MANIFEST = Manifest(name="films", catalogue=reference_catalogue(CSV, 1), seed="ab" * 32)
FULL = msgspec.structs.replace(
    MANIFEST,
    name='a "quoted" \\ näme',
    membership_key="cd" * 32,
    learning=LearningParameters(objective="explicit", n_factors=8, reg=15.0),
    privacy=PrivacyParameters(noise_multiplier=8.0, epsilon_budget=8.0),
)
PROMISE = Promise(
    epsilon=8.0,
    n_people=200,
    start=1_900_000_000,
    second_after_s=2000.0,
    enrol_s=60.0,
    contribute_s=120.0,
    recover_s=300.0,
    end_s=600.0,
)
PROMISING = msgspec.structs.replace(MANIFEST, promise=PROMISE)


@pytest.mark.parametrize("manifest", [MANIFEST, FULL, PROMISING])
def test_a_manifest_reads_back_with_the_same_id(manifest: Manifest) -> None:
    again = parse(dump(manifest))
    assert msgspec.structs.replace(again, catalogue=manifest.catalogue) == manifest
    assert again.swarm_id == manifest.swarm_id
    assert again.catalogue_csv() == CSV


def test_the_swarm_id_is_as_the_protocol_says() -> None:
    fields = msgspec.to_builtins(MANIFEST)
    del fields["catalogue"]["data"]
    del fields["promise"]  # there is none

    def in_order(value: object) -> object:
        return {key: in_order(value[key]) for key in sorted(value)} if isinstance(value, dict) else value

    assert MANIFEST.swarm_id == hashlib.sha256(msgpack.packb(in_order(fields))).digest()


def test_an_integer_written_for_a_decimal_number_makes_no_other_swarm() -> None:
    text = dump(MANIFEST)
    assert "round_interval_s = 10.0" in text
    assert parse(text.replace("round_interval_s = 10.0", "round_interval_s = 10")).swarm_id == MANIFEST.swarm_id


def test_every_parameter_is_part_of_the_id_and_the_packing_is_not() -> None:
    ids = {MANIFEST.swarm_id}
    for change in (
        {"name": "other"},
        {"seed": "cd" * 32},
        {"membership_key": "cd" * 32},
        {"learning": LearningParameters(n_factors=8)},
        {"privacy": PrivacyParameters(clip_norm=2.0)},
        {"promise": PROMISE},
        {"promise": msgspec.structs.replace(PROMISE, epsilon=2.0)},
        {"catalogue": reference_catalogue(b"item,title\n2,Heat\n", 1)},
    ):
        ids.add(msgspec.structs.replace(MANIFEST, **change).swarm_id)
    assert len(ids) == 9
    repacked = base64.b64encode(zlib.compress(CSV, 1)).decode()
    other_packing = msgspec.structs.replace(MANIFEST.catalogue, data=repacked)
    assert msgspec.structs.replace(MANIFEST, catalogue=other_packing).swarm_id == MANIFEST.swarm_id


@pytest.mark.parametrize(
    ("old", "new", "at_fault"),
    [
        ('name = "films"', 'name = ""', "name"),
        ('name = "films"', f'name = "{"x" * 65}"', "name"),
        ("n_factors = 16", "n_factors = 0", "n_factors"),
        ("n_factors = 16", "n_factors = 257", "n_factors"),
        ("momentum = 0.8", "momentum = 1.0", "momentum"),
        ("momentum = 0.8", "momentun = 0.8", "momentun"),
        ("format = 3", "format = 2", "format"),
        ('objective = "implicit"', 'objective = "both"', "objective"),
        ("clip_norm = 6.0", "clip_norm = 0.0", "clip_norm"),
        ("delta = 1e-05", "delta = 0.1", "delta"),
        ("n_items = 1", "n_items = 1000001", "n_items"),
        ("n_items = 1", "n_items = ", "TOML"),
    ],
)
def test_a_manifest_out_of_bounds_names_the_field(old: str, new: str, at_fault: str) -> None:
    text = dump(MANIFEST)
    assert old in text
    with pytest.raises(ManifestError, match=at_fault):
        parse(text.replace(old, new, 1))


def test_a_catalogue_that_does_not_fit_its_digest_is_refused() -> None:
    for data in ("", "?", base64.b64encode(b"x").decode(), base64.b64encode(zlib.compress(b"item,title\n")).decode()):
        damaged = msgspec.structs.replace(MANIFEST, catalogue=msgspec.structs.replace(MANIFEST.catalogue, data=data))
        with pytest.raises(ManifestError, match="catalogue"):
            damaged.catalogue_csv()


def test_a_catalogue_that_inflates_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_CATALOGUE_BYTES", 1000)
    at_the_limit, beyond = b"x" * 1000, b"x" * 1001
    fits = msgspec.structs.replace(MANIFEST, catalogue=reference_catalogue(at_the_limit, 1))
    assert fits.catalogue_csv() == at_the_limit
    with pytest.raises(ManifestError, match="larger than"):
        msgspec.structs.replace(MANIFEST, catalogue=reference_catalogue(beyond, 1)).catalogue_csv()


def test_files_that_cannot_be_manifests_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        load(tmp_path / "absent.toml")
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match=r"x\.toml"):
        load(path)
    path.write_text(dump(MANIFEST))
    assert load(path).swarm_id == MANIFEST.swarm_id
    monkeypatch.setattr(manifests, "MAX_MANIFEST_BYTES", 10)
    with pytest.raises(ManifestError, match="larger than"):
        load(path)


def test_a_manifest_without_a_promise_is_what_it_was_before_there_were_any() -> None:
    assert "promise" not in dump(MANIFEST)
    assert "[promise]" in dump(PROMISING)


@pytest.mark.parametrize(
    ("change", "at_fault"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": 20.1}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"n_people": 49}, "n_people"),
        ({"delta": 0.006}, "delta must be below 1/200"),
        ({"delta": 0.0}, "delta"),
        ({"enrol_s": 120.0}, "phases"),
        ({"recover_s": 120.0}, "phases"),
        ({"recover_s": 590.0}, "phases"),
        ({"end_s": float("inf")}, "end_s"),
        ({"second_after_s": 1079.0}, "mixed again"),
    ],
)
def test_a_promise_that_is_none_is_refused(change: dict[str, float], at_fault: str) -> None:
    fields = msgspec.to_builtins(PROMISING)
    fields["promise"] |= change
    with pytest.raises(ManifestError, match=at_fault):
        manifests.from_fields({key: value for key, value in fields.items() if value is not None})


def test_nothing_is_promised_for_ratings() -> None:
    with pytest.raises(ManifestError, match="implicit feedback"):
        parse(dump(PROMISING).replace('objective = "implicit"', 'objective = "explicit"'))


def test_the_smallest_promises_are_allowed_and_can_be_planned() -> None:
    for change in ({"n_people": MIN_PEOPLE}, {"epsilon": 20.0}, {"second_after_s": 1080.0}, {"delta": 0.004}):
        promise = msgspec.structs.replace(PROMISE, **change)
        assert parse(dump(msgspec.structs.replace(MANIFEST, promise=promise))).promise == promise
        PrivacyPlan.of(promise.epsilon, promise.delta, promise.n_people)


def test_the_second_sum_begins_when_the_first_is_final() -> None:
    assert PROMISE.start_of(1) == 1_900_000_000
    assert PROMISE.end_of(1) == 1_900_000_000 + 600 + 480 <= PROMISE.start_of(2) == 1_900_002_000


@pytest.mark.parametrize(("n_factors", "levels"), [(None, (3, 4)), (48, (3, 4)), (49, (2, 2))])
def test_many_factors_get_finer_levels(n_factors: int | None, levels: tuple[int, int]) -> None:
    implicit, _ = recommended("implicit", n_factors)
    explicit, _ = recommended("explicit", n_factors)
    assert (implicit.factors_per_byte, implicit.gradients_per_byte) == levels
    assert (explicit.factors_per_byte, explicit.gradients_per_byte) == (2, 2)
    assert implicit.n_factors == explicit.n_factors == (n_factors or 16)
