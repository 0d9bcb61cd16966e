"""What does not fit into memory is refused before it is begun."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_people import crowd, rng

from p2prec.errors import UsageError
from p2prec.lab import memory
from p2prec.lab.baselines.base import Training
from p2prec.lab.baselines.ease import Ease
from p2prec.lab.baselines.item_knn import ItemKnn
from p2prec.lab.config import config_from
from p2prec.lab.engines import moments


def machine(folder: Path, *, available_kb: int = 8_000_000, limit: str = "", used: int = 0, cached: int = 0) -> Path:
    (folder / "meminfo").write_text(f"MemTotal:  16000000 kB\nMemAvailable:  {available_kb} kB\n")
    if limit:
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")
    return folder


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({}, 8.192e9),
        ({"limit": "max", "used": 5}, 8.192e9),
        ({"limit": "3000000000", "used": 1_000_000_000}, 2e9),
        ({"limit": "3000000000", "used": 1_000_000_000, "cached": 400_000_000}, 2.4e9),
        ({"limit": "99000000000", "used": 0}, 8.192e9),
    ],
)
def test_what_is_free(about: dict[str, int], expected: float, tmp_path: Path) -> None:
    folder = machine(tmp_path, **about)  # type: ignore[arg-type]
    assert memory.free_bytes(folder, folder / "meminfo") == expected


def test_elsewhere_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert memory.free_bytes(tmp_path, tmp_path / "meminfo") >= 2**28


def test_a_swarm_that_does_not_fit_is_refused_with_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    train = Training.of(crowd(24), "implicit", 1)
    config = config_from({"data": "x", "rounds": 1, "backend": "numpy", "learning": {"n_factors": 3}})
    monkeypatch.setattr(memory, "free_bytes", lambda: 30_000.0)
    with pytest.raises(UsageError, match=r"24 peers with 40 items and 3 factors need 0\.0 GB") as refused:
        next(moments(config, train, rng()))
    fitting = int(refused.value.remedy.removeprefix("try --peers ").partition(",")[0])
    assert 2 <= fitting < 24
    monkeypatch.setattr(memory, "free_bytes", lambda: 1e9)
    assert next(moments(config, train, rng())).round == 1


@pytest.mark.parametrize("baseline", [Ease(), ItemKnn()])
def test_so_are_tables_of_all_items_by_all(baseline: Ease | ItemKnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 30_000.0)
    with pytest.raises(UsageError, match="40 by 40 items"):
        baseline.fit(Training.of(crowd(24), "implicit", 1), rng())
