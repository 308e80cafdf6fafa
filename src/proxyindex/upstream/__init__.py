"""Upstreams: remote indexes spoken to over HTTP. Nowhere else does the server connect to others."""

import sys
from typing import Any, cast

# httpx has a command of its own, which brings rich and pygments: 6 MB of each worker, 30 ms of each
# start. Where these are not installed it does without, as it now believes.
cast(dict[str, Any], sys.modules).setdefault("httpx._main", None)
