#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing to build and test VoxNAS on Debian or Ubuntu; a second call checks and returns at once.
#   scripts/setup.sh           packages and the private environment for `make search` and `make test`
#   scripts/setup.sh --tools   also clang, its fuzzing runtime, clang-format and clang-tidy
#   VOXNAS_LIBTORCH=/path      use this LibTorch folder; torch and the CUDA compiler are then not downloaded
# Debian packages are installed as root or through sudo; without either, the line to run is printed (exit code 1).
# The environment lies in ${XDG_CACHE_HOME:-~/.cache}/voxnas/env; nothing is written into the checkout.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/voxnas
env=$cache/env

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

packages=(g++ make pkg-config cmake ninja-build ccache python3 python3-venv patchelf
  nlohmann-json3-dev libcli11-dev libsqlite3-dev libeigen3-dev libboost-math-dev libnlopt-dev libxxhash-dev libcurl4-openssl-dev libcpp-httplib-dev
  libdeflate-dev libspng-dev libzip-dev zlib1g-dev libnifti-dev libisal-dev libprotobuf-dev protobuf-compiler libonnx-dev graphviz libgtest-dev libgmock-dev libbenchmark-dev)
tools=false
case "${1:-}" in
  "") ;;
  --tools) tools=true ;;
  *) say "expected no argument or --tools, found '$1'"; exit 2 ;;
esac

# ---- Debian packages ----
# Prints those of its arguments that are not installed.
missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p') || true
  local package
  for package in "$@"; do
    grep -qxF "$package" <<<"$installed" || printf '%s\n' "$package"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@"  # never wait for a password that nobody can type
  fi
}

install_packages() {
  local missing
  missing=$(missing_packages "$@" | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  local line="apt-get install -y --no-install-recommends ${missing% }"
  if [ "$(id -u)" != 0 ] && { ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; }; then
    say "these Debian packages are missing and neither root nor sudo is at hand. Run as root:"
    printf '  apt-get update && %s\n' "$line" >&2
    exit 1
  fi
  say "installing: ${missing% }"
  as_root apt-get update -qq || say "apt-get update failed; trying with the package lists at hand"
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive $line >&2 || die "could not install: $line"
}

if command -v dpkg-query >/dev/null; then
  install_packages "${packages[@]}"
  # For the pages of the dashboard and their tests; both are done without. Ubuntu's chromium is a snap, which cannot be used here.
  if grep -qx 'ID=debian' /etc/os-release 2>/dev/null; then
    (install_packages chromium) || say "no Chromium: the tests of the dashboard's pages will be skipped"
  fi
  command -v npm >/dev/null || (install_packages npm) || say "no npm: voxnas dashboard will say what is missing"
  if $tools; then
    install_packages clang clang-format clang-tidy llvm
    # The sanitizer and fuzzing runtimes: in the clang package on old releases, in one of their own on newer ones.
    if [ -z "$(find "$(clang --print-resource-dir)" -name 'libclang_rt.fuzzer*' -print -quit 2>/dev/null)" ]; then
      install_packages "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
    fi
  fi
else
  say "not a Debian system: please see to it that these are there: ${packages[*]}"
fi

# ---- the private environment ----
torch_wanted=true
if [ -n "${VOXNAS_LIBTORCH:-}" ]; then
  torch_wanted=false
  [ -e "$VOXNAS_LIBTORCH/lib/libtorch_cpu.so" ] ||
    die "VOXNAS_LIBTORCH: expected lib/libtorch_cpu.so in '$VOXNAS_LIBTORCH', found none"
fi

requirements_of() {  # test | torch | interop
  if [ "$1" = torch ]; then cat "$here/requirements.txt"; else cat "$here/requirements-$1.txt"; fi
}
# A stamp is written last and holds the requirements, so a half-finished or outdated installation shows.
ready() {  # part, files that must be there...
  local part=$1; shift
  [ -e "$env/.$part.stamp" ] && requirements_of "$part" | cmp -s - "$env/.$part.stamp" || return 1
  local file
  for file in "$@"; do compgen -G "$file" >/dev/null || return 1; done
}
site=$env/lib/python3*/site-packages
test_ready() { [ -x "$env/bin/python" ] && ready test "$site/nibabel/__init__.py" "$site/tensorboard/version.py" "$site/onnxruntime/__init__.py"; }
torch_ready() {
  ! $torch_wanted || ready torch "$site/torch/lib/libtorch_cpu.so" "$site/torch/include/torch/csrc/api/include/torch/torch.h" \
    "$site/nvidia/cu13/bin/nvcc" "$site/nvidia/cudnn/lib/libcudnn.so.9"
}
# nnU-Net and MONAI run on Python's torch and need Python 3.11; without them their tests skip.
interop_ready() {
  ! $torch_wanted || [ -d "$env/lib/python3.10" ] || ready interop "$site/nnunetv2/__init__.py" "$site/monai/__init__.py" "$site/skimage/__init__.py"
}
# uPlot and NiiVue, which the dashboard has compiled in, and playwright-core and axe-core of its tests: as its lock file says.
# Without npm, or where its registry cannot be reached, the build goes on and `voxnas dashboard` says what is missing.
web=$cache/web
web_lock=$here/../nas/dashboard/web/package-lock.json
web_ready() { [ -e "$web/node_modules/uplot/package.json" ] && cmp -s "$web_lock" "$web/package-lock.json"; }
all_ready() { test_ready && torch_ready && interop_ready && { web_ready || ! command -v npm >/dev/null; }; }
if all_ready; then exit 0; fi

mkdir -p "$cache"
exec 9>"$cache/setup.lock"
flock 9  # two checkouts may be set up at once
if all_ready; then exit 0; fi

if ! "$env/bin/python" -m pip --version >/dev/null 2>&1; then
  python=
  for candidate in /usr/bin/python3 python3; do  # the system's, not a version manager's shim
    if "$candidate" -c 'import sys, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  [ -n "$python" ] || die "expected Python 3.10 to 3.13 with its venv module; found $(python3 --version 2>&1 || echo none)"
  say "creating $env"
  rm -rf "$env"
  "$python" -m venv "$env"
fi
# Only what scripts/lock_requirements.py has written down: the index may not give other files for these versions.
pip_install() { "$env/bin/python" -m pip install --disable-pip-version-check --no-input --require-hashes --only-binary=:all: "$@" >&2; }

if ! test_ready; then
  say "installing the packages of the tests"
  pip_install -r "$here/requirements-test.txt" || die "could not install scripts/requirements-test.txt"
  requirements_of test >"$env/.test.stamp"
fi
if ! torch_ready; then
  say "installing LibTorch and the CUDA compiler (2.4 GB to download, 4.5 GB on disk)"
  pip_install --no-deps -r "$here/requirements.txt" || die "could not install scripts/requirements.txt"
  # A mismatch between the parts of the CUDA compiler shows here and not as a riddle in the build.
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  echo '__global__ void twice(float* x) { x[threadIdx.x] *= 2; }' >"$work/probe.cu"
  for nvcc in $site/nvidia/cu13/bin/nvcc; do
    "$nvcc" -c "$work/probe.cu" -o "$work/probe.o" >&2 || die "$nvcc does not compile an empty kernel"
  done
  requirements_of torch >"$env/.torch.stamp"
fi
if ! interop_ready; then
  say "installing nnU-Net and MONAI for the tests (150 MB to download)"
  # Two of them come as sources only; setuptools is there.
  pip_install --no-deps --no-build-isolation --no-binary=nnunetv2,acvl-utils -r "$here/requirements-interop.txt" ||
    die "could not install scripts/requirements-interop.txt"
  requirements_of interop >"$env/.interop.stamp"
fi
if ! web_ready && command -v npm >/dev/null; then
  say "installing the libraries of the dashboard's pages"
  rm -rf "$web.new"
  mkdir -p "$web.new"
  cp "$here/../nas/dashboard/web/package.json" "$web_lock" "$web.new/"
  # Nothing of a package runs here.
  if (cd "$web.new" && npm ci --ignore-scripts --no-audit --no-fund >&2); then
    rm -rf "$web"
    mv "$web.new" "$web"
  else
    rm -rf "$web.new"
    say "npm ci failed; the executable is built without the dashboard's libraries"
  fi
fi
say "done"
