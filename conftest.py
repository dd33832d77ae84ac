"""For all tests: Ctrl-C is heard, and no tracking unless a test asks for it (a new MLflow store costs seconds).

Workers in parallel begin with the long tests, so that none is left with one at the end; a single process goes from the
core outwards, so that what others stand on fails first.
"""

import os
import signal

import pytest

os.environ.setdefault("METALOOP_TRACKING_URI", "off")
# A shell's `&` has it ignored by all that it starts, and tests send it to themselves and to their workers.
signal.signal(signal.SIGINT, signal.default_int_handler)

LAYERS = ("/core/", "/toolkits/", "/integrations/", "/papers/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of tests."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    else:
        items.sort(key=lambda item: next((n for n, layer in enumerate(LAYERS) if layer in str(item.path)), len(LAYERS)))
