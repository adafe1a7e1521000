#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packs a release build for machines that have nothing but a driver and LibTorch:

    scripts/dist.py build/release OUT/voxnas-VERSION-linux-x86_64.tar.gz

bin/voxnas, bin/voxnas-gpu-check, libexec/voxnas (voxnas-torch, GPU tests, benches), lib (our libraries and those that a
bare machine lacks, from Debian), share/doc (licences). LibTorch is not in it: voxnas finds one of the same version
(nas/cli/torch_program.h). glibc and libstdc++ are the machine's; the oldest that will do are written into README.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = {"bin": ["voxnas"],
            "libexec/voxnas": ["voxnas-torch", "tests/training/kernels/kernels_gpu_tests", "tests/training/training_tests"]}
OPTIONAL = {"libexec/voxnas": ["experiments/bench/bench_kernels"]}  # `make dist` builds them
# What every machine has; nothing good comes of a second one in a process.
SYSTEM = re.compile(r"^(linux-vdso|ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|gcc_s|stdc\+\+))\.so")
LIMIT = 60e6  # bytes


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def libtorch_of(program):
    """The LibTorch folder that a program was linked with."""
    for line in run("ldd", program).splitlines():
        found = re.match(r"\s*libtorch_cpu\.so => (.*)/lib/libtorch_cpu\.so ", line)
        if found:
            return Path(found[1])
    sys.exit(f"dist: {program}: expected libtorch_cpu.so among what it needs, found none")


def libtorch_version(folder):
    for name, pattern in (("version.py", r"^__version__ = '(.*)'"), ("build-version", r"^(\S+)")):
        file = folder / name
        found = re.search(pattern, file.read_text(), re.M) if file.exists() else None
        if found:
            return found[1]
    sys.exit(f"dist: {folder}: expected the version in version.py or build-version, found neither")


def needed(program, torch_site):
    """Libraries of the system that a program needs, by their names."""
    result = {}
    for line in run("ldd", program).splitlines():
        found = re.match(r"\s*(\S+) => (\S+)", line)
        if not found:
            continue
        name, place = found[1], Path(found[2])
        if found[2] == "not":
            sys.exit(f"dist: {program}: {name} is not found")
        if not SYSTEM.match(name) and torch_site not in place.parents:
            result[name] = place
    return result


def oldest(programs):
    """The newest symbol versions that the programs and libraries ask of glibc and libstdc++."""
    text = "".join(run("objdump", "-T", file) for file in programs)
    newest = lambda name: max((tuple(map(int, v.split("."))) for v in re.findall(rf"{name}_([0-9.]+)", text)), default=())
    return {name: ".".join(map(str, newest(name))) for name in ("GLIBC", "GLIBCXX")}


def licence_of(library):
    """The copyright file of the Debian package that a library comes from."""
    for place in (library, library.resolve(), Path("/usr") / library.resolve().relative_to("/")):
        found = subprocess.run(["dpkg-query", "-S", place], capture_output=True, text=True).stdout
        if found:
            package = found.split(":")[0]
            return package, Path("/usr/share/doc") / package / "copyright"
    sys.exit(f"dist: {library}: belongs to no package, so that its licence is not known")


def pack(build, out):
    build = Path(build)
    version = re.search(r"project\(VoxNAS VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())[1]
    programs = [(folder, build / name) for folder, names in PROGRAMS.items() for name in names]
    programs += [(folder, build / name) for folder, names in OPTIONAL.items() for name in names if (build / name).exists()]
    for _, program in programs:
        if not program.exists():
            sys.exit(f"dist: expected {program}, found none: build it first (make build)")
    torch = libtorch_of(build / "voxnas-torch")
    site = torch.parent if torch.name == "torch" else torch
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary) / f"voxnas-{version}-linux-x86_64"
        libraries = {}
        for folder, program in programs:
            libraries.update(needed(program, site))
            to = top / folder / program.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(program, to)
            run("strip", to)
            up = "$ORIGIN/.." if folder == "bin" else "$ORIGIN/../.."
            run("patchelf", "--set-rpath", f"{up}/lib:{up}/libtorch/lib", to)
        shutil.copy(ROOT / "scripts/voxnas-gpu-check", top / "bin")
        (top / "libexec/voxnas/libtorch-version").write_text(libtorch_version(torch) + "\n")
        lib, doc = top / "lib", top / "share/doc"
        lib.mkdir()
        doc.mkdir(parents=True)
        shutil.copy(ROOT / "LICENSE", doc / "LICENSE")
        for name, place in sorted(libraries.items()):
            shutil.copy(place.resolve(), lib / name)
            run("strip", "--strip-unneeded", lib / name)
            run("patchelf", "--set-rpath", "$ORIGIN", lib / name)
            package, licence = licence_of(place)
            if not licence.exists():
                sys.exit(f"dist: {licence}: expected the licence of {name}, found none")
            shutil.copy(licence, doc / f"{package}.txt")
        least = oldest([file for file in top.rglob("*") if file.is_file() and file.read_bytes()[:4] == b"\x7fELF"])
        (top / "README").write_text(
            f"VoxNAS {version}\n\n"
            f"Needs glibc {least['GLIBC']} and libstdc++ with GLIBCXX_{least['GLIBCXX']} or newer, and LibTorch "
            f"{libtorch_version(torch)}:\nthe torch package of python3 (pip install torch=={libtorch_version(torch).split('+')[0]}), "
            "a folder `libtorch` beside `bin`, or VOXNAS_LIBTORCH=FOLDER.\n\n"
            "  bin/voxnas --help\n"
            "  bin/voxnas-gpu-check        on a machine with a GPU: tests and times what runs on it, in eight minutes\n")
        write(top, out)
    size = out.stat().st_size
    if size > LIMIT:
        sys.exit(f"dist: {out}: expected at most {LIMIT / 1e6:.0f} MB, found {size / 1e6:.1f} MB")
    print(f"{out}  {size / 1e6:.1f} MB, {len(libraries)} libraries, LibTorch {libtorch_version(torch)}, "
          f"glibc {least['GLIBC']}")


def write(top, out):
    """The archive, under a temporary name until it is whole; no owner and no time of this machine."""
    def anonymous(entry):
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = 0
        return entry

    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    with part.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            archive.add(top, arcname=top.name, filter=anonymous)
        file.flush()
        os.fsync(file.fileno())
    part.replace(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("build", help="folder of a release build")
    parser.add_argument("out", type=Path, help="archive to write")
    arguments = parser.parse_args()
    pack(arguments.build, arguments.out)
