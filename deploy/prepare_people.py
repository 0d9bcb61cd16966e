"""Fill a folder with what a swarm of containers starts from: `swarm.toml` and one history file for each person.

    prepare_people.py FOLDER

Does nothing when the folder is filled already, so that peers keep their swarm over `docker compose up`. Settings come from the
environment: PEOPLE (how many, default 500), ROUND_INTERVAL_S (default 5), SEED (default 0), NOISE_MULTIPLIER (default: the
recommended one).
"""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from pathlib import Path

import msgspec

from p2prec import manifest as manifests
from p2prec.data.demo_data import load_demo_data
from p2prec.data.histories import Histories, choose_people
from p2prec.errors import P2PRecError
from p2prec.manifest import Manifest, recommended, reference_catalogue


def main() -> int:
    folder = Path(sys.argv[1])
    if (folder / "swarm.toml").exists():
        print("the people are prepared already")
        return 0
    try:
        source = load_demo_data(None, folder / "cache")
        seed = int(os.environ.get("SEED", "0"))
        histories = choose_people(source.histories, int(os.environ.get("PEOPLE", "500")), seed=seed)
    except P2PRecError as error:
        print(f"prepare_people: {error}", file=sys.stderr)
        return 1
    write_histories(folder / "histories", histories)
    round_interval_s = float(os.environ.get("ROUND_INTERVAL_S", "5"))
    # Last: its presence says that all is there.
    noise = os.environ.get("NOISE_MULTIPLIER")
    write_manifest(folder / "swarm.toml", histories, round_interval_s, seed, float(noise) if noise else None)
    print(f"{len(histories)} people with {len(histories.items):,} interactions, from {source.source}")
    return 0


def write_histories(folder: Path, histories: Histories) -> None:
    """One CSV a person, named by the order in which peers take them."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = histories.catalogue.keys
    for person in range(len(histories)):
        pairs = histories.of(person)
        with (folder / f"{person:04}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("item", "rating", "timestamp"))
            for item, value, time in zip(
                pairs.items.tolist(), pairs.values.tolist(), pairs.times.tolist(), strict=True
            ):
                writer.writerow((keys[item], value, time))


def write_manifest(
    path: Path, histories: Histories, round_interval_s: float, seed: int, noise_multiplier: float | None = None
) -> None:
    """noise_multiplier: None for the recommended one."""
    learning, privacy = recommended("implicit")
    if noise_multiplier is not None:
        privacy = msgspec.structs.replace(privacy, noise_multiplier=noise_multiplier)
    manifest = Manifest(
        name="containers",
        catalogue=reference_catalogue(histories.catalogue.canonical_csv(), len(histories.catalogue)),
        seed=hashlib.sha256(f"p2prec containers {seed}".encode()).hexdigest(),
        learning=msgspec.structs.replace(learning, round_interval_s=round_interval_s),
        privacy=privacy,
    )
    partial = path.with_suffix(".partial")
    partial.write_text(manifests.dump(manifest), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
