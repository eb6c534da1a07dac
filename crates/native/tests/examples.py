"""How many examples hypothesis tries. In CI they are the same each time, so that only a change can fail."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def examples(n: int) -> settings:
    return settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=bool(os.environ.get("CI")),
        # A machine under load is no fault of the test.
        suppress_health_check=[HealthCheck.too_slow],
    )
