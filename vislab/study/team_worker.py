"""`python -m vislab.study.team_worker N COMMAND ...`: N workers that work on one job together, in place of one.

They are started by torchrun's agent, which ends them all as soon as one of them dies. This process then ends as that
one did: by the same signal, or with its code. So for the launcher it is a worker like any other. The first of the
workers has its standard input and output.
"""

from __future__ import annotations

import os
import signal
import sys

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2"  # passed on to the workers
SECONDS_TO_END = 45  # after that; a training writes a checkpoint


def main() -> None:
    processes, command = int(sys.argv[1]), sys.argv[2:]
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, max_restarts=0, run_id="vislab", local_addr="localhost",
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        signals_to_handle=SIGNALS, shutdown_timeout=SECONDS_TO_END,
    )  # fmt: skip
    try:
        elastic_launch(config, command[0])(*command[1:])
    except SignalException as stopped:
        end_as(-int(stopped.sigval))
    except ChildFailedError as error:
        end_as(error.get_first_failure()[1].exitcode)


def end_as(code: int) -> None:
    """code: of a process, negative for the signal that killed it."""
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
