"""A Slurm cluster of one node in a temporary folder, from Debian's slurm-wlm; none of the machine's own is touched.

    python tests/slurm/slurm_node.py        prints the line that makes it the shell's cluster, stops with Ctrl-C

Two partitions share the node: jobs of `urgent` preempt those of `batch`, which are requeued. There is no accounting
database. Everything runs as the user who starts it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
CPUS = 2
SECONDS_TO_START = 60
CONFIGURATION = """
ClusterName=vislab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} CoresPerSocket={cpus} ThreadsPerCore=1 State=UNKNOWN
PartitionName=batch Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE MaxTime=1-00:00:00 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=1-00:00:00 State=UP
"""


class NoSlurm(Exception):
    """Why there can be no node here."""


@contextlib.contextmanager
def slurm_node(cpus: int = CPUS) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands reach the node. Raises NoSlurm where its programs are missing."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="vislab-slurm-"))
    folder.chmod(0o755)  # as munged demands of the folder that its socket is in
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SUBMITIT"))}
    environment["SLURM_CONF"] = str(folder / "slurm.conf")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _configure(folder, cpus)
        munge = [programs["munged"], "--foreground", f"--key-file={folder}/munge.key"]
        munge += [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "seed-file")]
        stack.enter_context(_running(munge, environment, folder / "munged.out"))
        _wait(lambda: (folder / "munge.socket").exists(), folder)
        stack.enter_context(_running([programs["slurmctld"], "-D"], environment, folder / "slurmctld.out"))
        stack.enter_context(_running([programs["slurmd"], "-D", "-N", _host()], environment, folder / "slurmd.out"))
        stack.callback(_end_jobs, environment)
        _wait(lambda: "idle" in _output(["sinfo", "-h", "-o", "%T"], environment), folder)
        yield environment


def _programs() -> dict[str, str]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = {name: shutil.which(name, path=path) for name in PROGRAMS}
    missing = [name for name, place in found.items() if place is None]
    if missing:
        raise NoSlurm(f"Slurm is not installed: there is no {missing[0]} (Debian: apt-get install slurm-wlm)")
    return {name: place for name, place in found.items() if place is not None}


def _configure(folder: Path, cpus: int) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    controller, node = _free_ports(2)
    text = CONFIGURATION.format(
        folder=folder, host=_host(), user=getpass.getuser(), cpus=cpus, controller_port=controller, node_port=node
    )
    (folder / "slurm.conf").write_text(text.lstrip())
    (folder / "cgroup.conf").write_text(
        "CgroupPlugin=autodetect\nIgnoreSystemd=yes\n"
    )  # read, though nothing here uses control groups


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str], output: Path) -> Iterator[None]:
    with output.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_jobs(environment: dict[str, str]) -> None:
    """No process of a job outlives the node."""
    subprocess.run(["scancel", "--signal=KILL", "--full", f"--user={getpass.getuser()}"], env=environment, check=False)
    subprocess.run(["scancel", f"--user={getpass.getuser()}"], env=environment, check=False)
    for _ in range(100):
        if not _output(["squeue", "--noheader"], environment).strip():
            return
        time.sleep(0.2)


def _output(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def _wait(condition: Callable[[], bool], folder: Path) -> None:
    for _ in range(5 * SECONDS_TO_START):
        if condition():
            return
        time.sleep(0.2)
    logs = "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-1500:]}" for path in folder.glob("*.[ol][uo]*"))
    raise AssertionError(f"Slurm did not start within {SECONDS_TO_START} s\n{logs}")


def main() -> None:
    try:
        with slurm_node() as environment:
            print(f"export SLURM_CONF={environment['SLURM_CONF']}", flush=True)
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            for each in (signal.SIGINT, signal.SIGTERM):  # one is enough, and must not disturb the stopping
                signal.signal(each, signal.SIG_IGN)
    except NoSlurm as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
