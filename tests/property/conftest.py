"""Property tests are the same on every run, and do not depend on the machine's speed.

To search further: pytest tests/property --hypothesis-profile=search
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=5000, deadline=None)
settings.load_profile("repeatable")
