"""A real Kubernetes node on this machine, as root, that leaves the machine as it was.

python -m cluster.node up        # KUBECONFIG is printed; nothing to do when it is up already
python -m cluster.node up --images  # with our images, built before it starts
python -m cluster.node images    # build our images anew and load them into the node
python -m cluster.node down      # end it, then compare the machine with how it was before
python -m cluster.node check-clean
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster import machine, namespace, oci
from cluster.daemons import NAME, SOCKET, Daemons, audit_log, write_configuration
from cluster.namespace import Namespace, NamespaceError
from cluster.tools import NODE, ToolsError, cache_root, ensure

PAUSE: Final = "localhost/pause:3.10"
OURS: Final = ("operator", "sidecar", "engine-cpu")
_REPOSITORY: Final = Path(__file__).parents[2]
_POLL_S: Final = 0.2
_UP_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Node:
    """The node of this machine; its files are in `home`, images survive in there too."""

    home: Path

    @property
    def kubeconfig(self) -> Path:
        """A cluster administrator's kubeconfig."""
        return self.home / "kubeconfig"

    @property
    def layout(self) -> Path:
        """The OCI layout through which images reach the node."""
        return self.home / "images"

    @property
    def audit_log(self) -> Path:
        """One JSON line for each request of a service account."""
        return audit_log(self.home)

    def running(self) -> Namespace | None:
        """The namespace when the node is up."""
        path = self.home / "node.json"
        if not path.exists():
            return None
        space = Namespace(json.loads(path.read_text(encoding="utf-8"))["pid"])
        # After a reboot another process may have the number.
        inside = space.alive and str(self.home) in _mountpoints(space.pid)
        return space if inside else None

    def up(self) -> None:
        """Start control plane and node and return when it is Ready (about fifteen seconds)."""
        if self.running() is not None:
            return
        # Programs first: whatever builds them is not the node's doing.
        programs = ensure(NODE)
        machine.prepare(with_images=False, say=_say)
        before = machine.snapshot()
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "before.json").write_text(json.dumps(before), encoding="utf-8")
        space = namespace.create(keep=self.home)
        (self.home / "node.json").write_text(json.dumps({"pid": space.pid}), encoding="utf-8")
        try:
            self._start(space, programs)
        except BaseException:
            _say(f"the node did not come up: its logs are in {self.home / 'logs'}")
            self.down()
            raise

    def down(self) -> None:
        """End everything; images stay in `home` for the next time."""
        space = self.running()
        if space is not None:
            space.end()
        namespace.remove_link()
        (self.home / "node.json").unlink(missing_ok=True)
        for name in ("keys", "state"):
            shutil.rmtree(self.home / name, ignore_errors=True)
        self.kubeconfig.unlink(missing_ok=True)
        _until("the pods' control groups are empty", _cgroups_removed, timeout_s=10)

    def left_behind(self) -> list[str]:
        """What differs from the machine before `up`, one line each; empty when it is clean."""
        path = self.home / "before.json"
        if not path.exists():
            return []
        if self.running() is not None:
            return ["the node is up: `make cluster-down` first"]
        before = json.loads(path.read_text(encoding="utf-8"))
        lines = machine.difference(before, machine.snapshot())
        folder = str(self.home / "state")
        return lines + [f"process: {line}" for line in machine.processes_mentioning(folder)]

    def load(self, images: Sequence[str]) -> None:
        """Bring images of the layout into the node, sending only layers that it lacks."""
        space = self._required()
        daemons = Daemons(self.home, space, ensure(NODE))
        loaded = daemons.images()
        for image in images:
            if loaded.get(image) == oci.digest_of(self.layout, image):
                continue
            started = time.monotonic()
            command = space.command(daemons.ctr("images", "import", "-"))
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                oci.write_new(self.layout, image, known=daemons.contents(), stream=process.stdin)
                process.stdin.close()
                output = process.stdout.read().decode(errors="replace")
            if process.returncode != 0:
                raise NamespaceError(f"loading {image} failed: {output.strip()[-800:]}")
            _say(f"loaded {image} in {time.monotonic() - started:.0f} s")
        oci.prune(self.layout)

    def build(self) -> list[str]:
        """Build and export the images of this repository; what `load` takes.

        Before `up`, if it can be: what the builder leaves on the machine is not the node's doing.
        """
        machine.prepare(with_images=True, say=_say)
        script = str(_REPOSITORY / "images" / "build.py")
        wanted = [argument for name in OURS for argument in ("--image", name)]
        command = [sys.executable, script, "export", "--layout", str(self.layout), *wanted]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise NamespaceError("the images could not be built: see above")
        return done.stdout.split()

    def load_program(self, image: str, program: Path, arguments: Sequence[str] = ()) -> None:
        """Load an image that holds one static program and nothing else."""
        oci.add_scratch_image(
            self.layout,
            name=image,
            files={program.name: program},
            entrypoint=[f"/{program.name}", *arguments],
        )
        self.load([image])

    def tag(self, image: str, name: str) -> None:
        """Give an image that the node has another name."""
        space = self._required()
        daemons = Daemons(self.home, space, ensure(NODE))
        space.run(daemons.ctr("images", "tag", "--force", image, name))

    def _required(self) -> Namespace:
        space = self.running()
        if space is None:
            raise NamespaceError("the node is not up: `make cluster` starts it")
        return space

    def _start(self, space: Namespace, programs: dict[str, Path]) -> None:
        cni = machine.cni_folder()
        assert cni is not None, "prepare() has installed the network plugins"
        write_configuration(self.home, pause=PAUSE, cni=cni)
        daemons = Daemons(self.home, space, programs)
        daemons.start_runtime()
        daemons.start_control_plane()
        _until("containerd answers", daemons.runtime_ready, timeout_s=_UP_TIMEOUT_S)
        if daemons.forget_containers():
            _until("containerd answers again", daemons.runtime_ready, timeout_s=_UP_TIMEOUT_S)
        catatonit = shutil.which("catatonit")
        assert catatonit is not None, "prepare() has installed it"
        self.load_program(PAUSE, Path(catatonit), ["-P"])
        _until("the API server is ready", daemons.api_ready, timeout_s=_UP_TIMEOUT_S)
        daemons.start_node()
        _until(f"node {NAME} is Ready", daemons.node_ready, timeout_s=_UP_TIMEOUT_S)


def the_node() -> Node:
    """This machine's node: one per cache folder, up or not."""
    return Node(cache_root() / "cluster")


def _mountpoints(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def _cgroups_removed() -> bool:
    try:
        machine.remove_pod_cgroups()
    except OSError:
        return False  # a killed process is still leaving its group
    return True


def _until(what: str, condition: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise NamespaceError(f"waited {timeout_s:.0f} s in vain: {what}")
        time.sleep(_POLL_S)


def _say(text: str) -> None:
    print(f"[cluster] {text}", file=sys.stderr, flush=True)


def _report(lines: Sequence[str]) -> int:
    for line in lines:
        print(f"not clean: {line}", file=sys.stderr)
    return 1 if lines else 0


def main() -> int:
    """Run one command; errors name the cause and the next step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = ("up", "images", "down", "check-clean")
    parser.add_argument("command", choices=commands)
    parser.add_argument("--images", action="store_true", help="up: with our images")
    arguments = parser.parse_args()
    command: str = arguments.command
    node = the_node()
    try:
        if command == "up":
            built = node.build() if arguments.images else []
            started = time.monotonic()
            node.up()
            _say(f"node Ready after {time.monotonic() - started:.0f} s ({SOCKET} inside)")
            node.load(built)
            print(f"export KUBECONFIG={node.kubeconfig}")
        elif command == "images":
            node.load(node.build())
        elif command == "down":
            node.down()
        return _report(node.left_behind()) if command in {"down", "check-clean"} else 0
    except (NamespaceError, ToolsError, machine.MachineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
