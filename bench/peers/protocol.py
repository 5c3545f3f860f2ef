"""The peers' side of bench/worker.mjs: one record when ready, then one for each line on stdin."""

import json
import resource
import sys
import time


def say(**record):
    print(json.dumps(record), file=sys.__stdout__, flush=True)


def peak_rss_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(ready, round_):
    """round_() does the work once; a first one is not measured."""
    round_()
    say(ready=True, **ready)
    for _ in sys.stdin:
        start = time.perf_counter()
        report = round_() or {}
        say(**{"seconds": time.perf_counter() - start, **report})
    say(peak_rss_bytes=peak_rss_bytes())
