"""How often to try a property; tests/campaign.h says the same to the C++ tests."""

import os


def num_trials(count: int) -> int:
    if "PERPEND_LONG" in os.environ:
        count *= 20
    if "PERPEND_SHORT" in os.environ:
        count = max(1, count // 10)
    return count
