"""The command line in a process that stays: each line of stdin is one command's arguments, as a JSON list.

Each answer is one line: exit code, and what the command printed to stdout and stderr.
"""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from ourvidz.cli import run

for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = int(run(json.loads(line)))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
