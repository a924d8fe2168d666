"""Speaks the worker's protocol without torch. What it does with a run depends on the run's seed:

0 to 9 finish; 10 fails; 11 dies by SIGKILL; 12 ends with code 3; 13 waits until its lifeline is cut; 14 writes half a
line and dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path


def send(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def work(job: dict, lines: list[str]) -> None:
    for index, run in enumerate(job["runs"]):
        seed = run["seed"]
        send("progress", run=index, stage="train", step=1, total=2, loss=0.5)
        if seed == 10:
            send("failed", run=index, error="the loss is not finite")
            continue
        if seed == 11:
            os.kill(os.getpid(), signal.SIGKILL)
        if seed == 12:
            sys.exit(3)
        if seed == 13:
            Path(job["store"], f"waiting-{os.getpid()}").touch()
            time.sleep(60)
        if seed == 14:
            sys.stdout.write('{"event": "do')
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        send("done", run=index)


def main() -> None:
    jobs: list[str] = []
    arrived = threading.Condition()

    def read() -> None:
        for line in sys.stdin:
            with arrived:
                jobs.append(line)
                arrived.notify()
        os._exit(130)

    threading.Thread(target=read, daemon=True).start()
    while True:
        with arrived:
            arrived.wait_for(lambda: jobs)
            job = json.loads(jobs.pop(0))
        Path(job["store"], f"worker-{os.getpid()}").touch()
        work(job, jobs)
        send("idle")


if __name__ == "__main__":
    main()
