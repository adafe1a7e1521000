# SPDX-License-Identifier: Apache-2.0
"""make dist on a bare machine: dist_test.py BUILD. Unpacks the archive in a root that holds glibc, libstdc++, the archive and
LibTorch and nothing else, no shell and no Python, and searches there. Skips (77) where no such root can be made."""
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY / "scripts"))
import dist  # noqa: E402

AS_ROOT = [] if os.geteuid() == 0 else ["--map-root-user"]  # of a namespace
BARE = ["libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libutil.so.1", "libresolv.so.2",
        "libgcc_s.so.1", "libstdc++.so.6"]


def libraries():
    """Name -> place, as the loader knows them."""
    text = subprocess.run(["/sbin/ldconfig", "-p"], check=True, capture_output=True, text=True).stdout
    return {name: Path(place) for name, place in re.findall(r"^\s*(\S+) \(libc6,x86-64[^)]*\) => (\S+)", text, re.M)}


def bare_root(root, archive):
    known = libraries()
    for folder in ("lib64", "lib/x86_64-linux-gnu", "tmp", "proc", "dev", "opt", "libtorch-site"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/lib64/ld-linux-x86-64.so.2", root / "lib64")
    for name in BARE:
        shutil.copy(known[name], root / "lib/x86_64-linux-gnu" / name)
    with tarfile.open(archive) as tar:
        tar.extractall(root / "opt")
    (found,) = (root / "opt").iterdir()
    return "/opt/" + found.name


def inside(root, site, environment, *command):
    """Runs a command with `root` as the root; LibTorch's packages lie in /libtorch-site."""
    script = 'mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" && mount --bind "$2" "$1/libtorch-site" && ' \
             'root=$1 && shift 2 && exec chroot "$root" "$@"'
    return subprocess.run(["unshare", "--mount", *AS_ROOT, "sh", "-c", script, "sh", str(root), str(site), *command],
                          capture_output=True, text=True, timeout=240, env={"PATH": "/usr/bin:/bin:/usr/sbin", **environment})


def main():
    build = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        archive = top / "voxnas.tar.gz"
        packed = subprocess.run([sys.executable, REPOSITORY / "scripts/dist.py", build, archive], capture_output=True, text=True)
        print(packed.stdout + packed.stderr)
        assert packed.returncode == 0
        torch = dist.libtorch_of(build / "voxnas-torch")
        probe = subprocess.run(["unshare", "--mount", *AS_ROOT, "true"])
        if probe.returncode != 0:
            print("SKIPPED: this machine lets nobody make a mount namespace")
            return 77
        root = top / "root"
        home = bare_root(root, archive)
        voxnas = home + "/bin/voxnas"

        # Without LibTorch: what needs none works, the rest says what is missing.
        for command in ([voxnas, "phantom", "/tmp/phantom", "--size", "12x16x12"], [voxnas, "doctor", "/tmp/phantom"]):
            done = inside(root, torch.parent, {}, *command)
            assert done.returncode == 0, done.stderr
        search = [voxnas, "search", "/tmp/phantom", "--steps", "6", "--trials", "2", "-o", "/tmp/run"]
        refused = inside(root, torch.parent, {}, *search)
        assert refused.returncode == 2, refused.stderr
        assert "LibTorch: expected version" in refused.stderr and "python3: no lib/libtorch_cpu.so" in refused.stderr, refused.stderr

        done = inside(root, torch.parent, {"VOXNAS_LIBTORCH": "/libtorch-site/" + torch.name, "HOME": "/tmp"}, *search)
        print(done.stdout[-2000:] + done.stderr[-2000:])
        assert done.returncode == 0
        assert (root / "tmp/run/report.html").stat().st_size > 1000
    return 0


if __name__ == "__main__":
    sys.exit(main())
