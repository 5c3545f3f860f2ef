#!/usr/bin/env python3
"""Runs a command and prints, behind its own output, one JSON line with wall and processor seconds and peak memory."""

import json
import resource
import subprocess
import sys
import time

start = time.perf_counter()
code = subprocess.call(sys.argv[1:])
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
record = {
    "seconds": seconds,
    "cpu_seconds": used.ru_utime + used.ru_stime,
    "peak_rss_bytes": used.ru_maxrss * 1024,
}
print(json.dumps(record), flush=True)
sys.exit(code)
