"""Where the tests find things: this checkout, and the published data that may lie beside it."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

SHARED = Path(os.environ.get("DBRECON_SHARED") or CHECKOUT.parent / "shared")
"""Real tables and the Census Bureau's own results; tests that need them are skipped, and say so, where the folder is not."""

SHARED_DATA = SHARED / "data"
