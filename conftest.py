"""For all tests: Ctrl-C is heard, and no tracking unless a test asks for it (a new MLflow store costs seconds)."""

import os
import signal

os.environ.setdefault("METALOOP_TRACKING_URI", "off")
# A shell's `&` has it ignored by all that it starts, and tests send it to themselves and to their workers.
signal.signal(signal.SIGINT, signal.default_int_handler)
