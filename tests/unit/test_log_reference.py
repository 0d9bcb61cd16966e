"""docs/reference-log.md has every event with its level and every field."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path

from test_daemon_parts import EVENTS

from p2prec.daemon import log

REFERENCE = Path(__file__).parents[2] / "docs" / "reference-log.md"
ROWS = {
    name: (level, fields)
    for name, level, fields in re.findall(
        r"^\| `([A-Z]\w+)` \| ([^|]+) \| [^|]+ \|([^|]*)\|$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE
    )
}


def test_the_reference_has_every_event_and_no_other() -> None:
    assert set(ROWS) == {type(event).__name__ for event in EVENTS}


def test_the_reference_has_every_field_and_the_level() -> None:
    for event in EVENTS:
        level, fields = ROWS[type(event).__name__]
        for field in dataclasses.fields(event):
            assert f"`{field.name}`" in fields, f"{type(event).__name__}.{field.name}"
        assert logging.getLevelName(log.describe(event)[0]).lower() in level
