"""For all tests: no tracking, unless a test asks for it (a new MLflow store alone costs seconds)."""

import os

os.environ.setdefault("METALOOP_TRACKING_URI", "off")
