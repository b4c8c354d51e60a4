"""A SLURM of one node on the loopback device, for tests: Debian's programs, a folder of its own, no systemd."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
CONF = """
ClusterName=onenode
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={other}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=10
MinJobAge=600
LaunchParameters=disable_send_gids
PlugStackConfig={folder}/plugstack.conf
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
"""


def missing() -> str | None:
    """Why no cluster can be started here, None where one can."""
    absent = [p for p in PROGRAMS if shutil.which(p, path=PATH) is None]
    if absent:
        return f"no {', '.join(absent)} (Debian: munge slurmctld slurmd slurm-client; make test-slurm installs as root)"
    return None if os.getuid() == 0 else "the daemons of the test's cluster are started as root"


class OneNode:
    """The three daemons run in the foreground as children of this process and are ended by their own ids."""

    def __init__(self, folder: Path, cpus: int) -> None:
        self.folder, self.daemons = folder, dict[str, subprocess.Popen[bytes]]()
        host, (port, other) = socket.gethostname().split(".")[0], _free_ports()
        (folder / "state").mkdir(parents=True)
        (folder / "spool").mkdir()
        (folder / "plugstack.conf").touch()
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self.conf = folder / "slurm.conf"
        self.conf.write_text(CONF.format(host=host, port=port, other=other, folder=folder, cpus=cpus))
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SUBMITIT_"))}
        self.environment = {**kept, "PATH": PATH, "SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        """Up to an idle node. Raises RuntimeError with the daemon's last lines where one does not come up."""
        f = self.folder
        socket_, files = f / "munge.socket", [f"--{n}-file={f}/munged.{n}" for n in ("pid", "log", "seed")]
        # --force: munge dislikes folders below one that everybody may write to, as temporary folders are
        munge = ["munged", "--foreground", "--force", f"--key-file={f}/munge.key", f"--socket={socket_}", *files]
        self._daemon(munge, socket_.exists)
        self._daemon(["slurmctld", "-D", "-i", "-f", str(self.conf)], lambda: self._says("scontrol", "ping"))
        self._daemon(["slurmd", "-D", "-f", str(self.conf)], lambda: "idle" in self.run("sinfo", "-h", "-o", "%T"))

    def _daemon(self, command: list[str], up: Callable[[], bool]) -> None:
        name, log = command[0], self.folder / f"{command[0]}.log"
        clean = {"PATH": PATH, "SLURM_CONF": str(self.conf)}  # what a daemon has in its environment leaks into jobs
        with log.open("wb") as out:
            program = [shutil.which(name, path=PATH) or name, *command[1:]]
            self.daemons[name] = subprocess.Popen(program, env=clean, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        if not eventually(lambda: self.daemons[name].poll() is not None or up(), 30):
            raise RuntimeError(f"{name} does not come up: {self.log(name)}")
        if self.daemons[name].poll() is not None:
            raise RuntimeError(f"{name} ended at once: {self.log(name)}")

    def _says(self, *command: str) -> bool:
        return subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode == 0

    def run(self, *command: str) -> str:
        """Output of a SLURM command; raises where it fails."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def log(self, daemon: str) -> str:
        """The last lines of what a daemon has said."""
        return (self.folder / f"{daemon}.log").read_text()[-4000:]

    def stop(self) -> None:
        """Cancel what is left, end the daemons."""
        if self.daemons.get("slurmctld") and self.daemons["slurmctld"].poll() is None:
            for job in set(self.run("squeue", "-h", "-o", "%A").split()):
                self._says("scancel", job)
            eventually(lambda: not self.run("squeue", "-h").strip(), 20)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def eventually(true: Callable[[], bool], seconds: float) -> bool:
    """Whether something becomes true in time; looked at ten times a second."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
