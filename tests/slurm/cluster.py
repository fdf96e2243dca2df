"""A real SLURM cluster on one machine: munged, slurmctld and two slurmd, each node in namespaces of its own.

A node has its own processes, address, /tmp and /dev/shm, and four fake GPUs; nodes share every other directory, as a
cluster shares its home directories. Needs root, and Debian's slurmctld, slurmd, slurm-client, munge and iproute2.

    python tests/slurm/cluster.py            # a shell on the login node; the cluster ends with it
    python tests/slurm/cluster.py sinfo      # one command

All processes live in one process namespace, which the kernel clears when its first process ends, and that one ends with
the Python process that started it. Files are written to one temporary directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NODES = ("node1", "node2")
GPUS = 4
_ADDRESSES = {"control": "10.77.0.1", "node1": "10.77.0.11", "node2": "10.77.0.12"}
_UNSHARE = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]

# cred_expire: a requeued job waits for it, and a step that takes longer to reach its node fails.
# config_overrides: nodes may claim more processors than the machine has.
# Character devices and no device control: that is all it takes for SLURM to hand out GPUs that are not there.
_SLURM_CONF = """
ClusterName=test
SlurmctldHost=control({control})
AuthType=auth/munge
CredType=cred/munge
AuthInfo=cred_expire=10,socket={base}/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool/%n
SlurmctldPidFile={base}/state/slurmctld.pid
SlurmdPidFile={base}/spool/%n.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=bf_interval=1,sched_interval=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=6
MessageTimeout=5
TCPTimeout=2
KillWait=5
MinJobAge=3600
GresTypes=gpu
NodeName=node1 NodeAddr={node1} CPUs=8 RealMemory=8000 Gres=gpu:{gpus}
NodeName=node2 NodeAddr={node2} CPUs=8 RealMemory=8000 Gres=gpu:{gpus}
PartitionName=main Nodes=ALL Default=YES PriorityTier=10 MaxTime=INFINITE
PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=60 MaxTime=INFINITE
"""


class Cluster:
    """Start with `up`, end with `down`; also a context manager.

    Args:
        shared: directories under the machine's temporary directory that the nodes are to see (all others they see).
        environment: variables of every command, in addition to this process's own.
    """

    def __init__(self, shared: tuple[Path, ...] = (), environment: dict[str, str] | None = None) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="mtl-slurm-")).resolve()
        self._shared = [self.base, *(path.resolve() for path in shared)]
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        home = self.base / "home"
        home.mkdir()
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(self.base / "slurm.conf"),
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            **(environment or {}),
        }

    def __enter__(self) -> Cluster:
        try:
            return self.up()
        except BaseException:
            self.down()
            raise

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> Cluster:
        """Start everything and wait until both nodes take jobs."""
        self._write_files()
        self._start_control()
        for node in NODES:
            self.revive(node)
        self.until(lambda: self._idle() == set(NODES), 30, "both nodes idle")
        return self

    def down(self) -> None:
        """End every process and remove every file."""
        control = self._started.pop("control", None)
        if control is not None and control.poll() is None:
            os.kill(_descendant(control, 1), 9)  # the kernel ends the nodes with it, and only then reports it dead
            control.wait()
        for node in self._started.values():
            node.wait()
        self._started.clear()
        shutil.rmtree(self.base)

    def run(self, *command: str | Path, cwd: Path | None = None, timeout: float = 60, **environment: str) -> str:
        """What a command prints on the login node, which has no GPU.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            [*self._enter("control"), f"--wd={cwd or self.base / 'home'}", "--", *map(str, command)],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def shell(self, *command: str) -> int:
        """Run a command on the login node with this process's terminal."""
        return subprocess.run([*self._enter("control"), "--", *command], env=self.environment).returncode

    def crash(self, node: str) -> None:
        """What a power failure does: the network is silent, then every process is gone."""
        self._ip("link", "delete", f"to-{node}")
        process = self._started.pop(node)
        os.kill(_descendant(process, 2), 9)
        process.wait()

    def revive(self, node: str) -> None:
        """Start a node, at first or after a crash."""
        private = self.base / "nodes" / node
        shutil.rmtree(private, ignore_errors=True)
        private.mkdir(parents=True)
        private.chmod(0o1777)
        script = [f"hostname {node}", f"mount --bind {self.base}/hosts /etc/hosts"]
        for path in self._shared:
            if path.is_relative_to("/tmp"):
                seen = private / path.relative_to("/tmp")
                seen.mkdir(parents=True, exist_ok=True)
                script.append(f"mount --rbind {path} {seen}")
        script += [
            f"mount --rbind {private} /tmp",
            "mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
            "ip link set lo up",
            "until ip link set eth0 up 2>/dev/null; do sleep 0.02; done",
            f"ip address add {_ADDRESSES[node]}/24 dev eth0",
            f"slurmd -D -N {node} & wait",
        ]
        process = self._start(node, script, self._enter("control"))
        first = _descendant(process, 2)
        self._ip(
            "link",
            "add",
            f"to-{node}",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            _hardware(node),
            "netns",
            str(first),
        )
        self._ip("link", "set", f"to-{node}", "master", "bridge", "up")

    @contextmanager
    def unreachable(self, node: str, other: str) -> Iterator[None]:
        """What `node` sends to `other` is lost; the controller reaches both."""
        first = _descendant(self._started[node], 2)
        entry = [
            "nsenter",
            f"--target={first}",
            "--net",
            "ip",
            "neighbour",
            "replace",
            _ADDRESSES[other],
            "dev",
            "eth0",
        ]
        subprocess.run([*entry, "lladdr", "02:00:00:00:00:00", "nud", "permanent"], check=True)
        try:
            yield
        finally:
            subprocess.run([*entry, "lladdr", _hardware(other), "nud", "permanent"], check=True)

    @property
    def alive(self) -> list[str]:
        """The nodes that are not crashed."""
        return [node for node in NODES if node in self._started]

    def processes(self, node: str) -> list[str]:
        """Command lines of everything that runs on a node."""
        first = _descendant(self._started[node], 2)
        listing = subprocess.run(
            ["nsenter", f"--target={first}", "--pid", "--mount", "ps", "-eo", "args="],
            capture_output=True,
            text=True,
            check=True,
        )
        return [line for line in listing.stdout.splitlines() if not line.startswith("ps -eo")]

    def kill(self, node: str, command: str) -> None:
        """Kill, as the kernel does for want of memory, the Python programs on a node whose command line has this."""
        first = _descendant(self._started[node], 2)
        entry = ["nsenter", f"--target={first}", "--pid", "--mount"]
        subprocess.run([*entry, "pkill", "-KILL", "-f", f"python[^ ]* [^ ]*{command}"], check=True)

    def until(self, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true value of `condition`.

        Raises:
            AssertionError: none came in time; the daemons' last words are in the message.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds} s: {what}\n{self._last_words()}")

    def _write_files(self) -> None:
        for name in ("log", "state", "spool", "munge", "nodes", "devices"):
            (self.base / name).mkdir()
        (self.base / "munge").chmod(0o755)
        for number in range(GPUS):
            os.mknod(self.base / "devices" / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
        hosts = "".join(f"{address} {name}\n" for name, address in _ADDRESSES.items())
        self._write("hosts", f"127.0.0.1 localhost\n{hosts}")
        self._write("cgroup.conf", "CgroupPlugin=cgroup/v1\n")
        devices = f"{self.base}/devices/gpu[0-{GPUS - 1}]"
        self._write("gres.conf", f"AutoDetect=off\nNodeName=node[1-2] Name=gpu File={devices}\n")
        self._write("slurm.conf", _SLURM_CONF.format(base=self.base, gpus=GPUS, **_ADDRESSES))
        self._write("munge/key", os.urandom(128).hex())
        (self.base / "munge" / "key").chmod(0o600)

    def _write(self, name: str, text: str) -> None:
        (self.base / name).write_text(text)

    def _start_control(self) -> None:
        munge = self.base / "munge"
        script = [
            "hostname control",
            f"mount --bind {self.base}/hosts /etc/hosts",
            "ip link set lo up",
            "ip link add bridge type bridge",
            f"ip address add {_ADDRESSES['control']}/24 dev bridge",
            "ip link set bridge up",
            f"munged --foreground --force --socket={munge}/socket --key-file={munge}/key --seed-file={munge}/seed"
            f" --pid-file={munge}/pid --log-file={self.base}/log/munged.log &",
            f"until [ -S {munge}/socket ]; do sleep 0.02; done",
            "slurmctld -D & wait",
        ]
        self._start("control", script, [])
        self.until((munge / "socket").exists, 10, "munged answers")

    def _start(self, name: str, script: list[str], inside: list[str]) -> subprocess.Popen[bytes]:
        with (self.base / "log" / f"{name}.out").open("ab") as log:
            self._started[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", *inside, *_UNSHARE, "bash", "-ec", "\n".join(script)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._started[name]

    def _enter(self, name: str) -> list[str]:
        first = _descendant(self._started[name], 1)
        return ["nsenter", f"--target={first}", "--net", "--uts", "--ipc", "--mount", "--pid"]

    def _ip(self, *arguments: str) -> None:
        control = _descendant(self._started["control"], 1)
        subprocess.run(["nsenter", f"--target={control}", "--net", "ip", *arguments], check=True)

    def _idle(self) -> set[str]:
        try:
            shown = self.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%n %t", timeout=5)
        except (AssertionError, subprocess.TimeoutExpired):
            return set()
        return {line.split()[0] for line in shown.splitlines() if line.split()[1] == "idle"}

    def _last_words(self) -> str:
        logs = sorted((self.base / "log").iterdir())
        return "\n".join(f"== {log.name}\n" + "\n".join(log.read_text().splitlines()[-8:]) for log in logs)


def _hardware(node: str) -> str:
    """A node comes back with the network card it had: others would take a new one's frames for lost, for seconds."""
    return "02:00:" + ":".join(f"{int(part):02x}" for part in _ADDRESSES[node].split("."))


def _descendant(process: subprocess.Popen[bytes], generations: int) -> int:
    """Process number of the only child of the only child ... of a process, as soon as it is there."""
    number = process.pid
    end = time.monotonic() + 10
    while generations:
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        if children:
            number, generations = int(children[0]), generations - 1
        elif time.monotonic() > end:
            raise AssertionError(f"process {number} started nothing")
        else:
            time.sleep(0.01)
    return number


if __name__ == "__main__":
    with Cluster((Path.cwd(), Path(sys.prefix))) as cluster:
        sys.exit(cluster.shell(*(sys.argv[1:] or ["bash", "--norc"])))
