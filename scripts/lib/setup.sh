#!/usr/bin/env bash
# Sourced by the other scripts. Changes to the project's folder, so that relative paths work from anywhere,
# and makes sure that `python` has the requirements. A script may set REQUIREMENTS first: requirements-data.txt
# is a small part of requirements.txt, without torch.
#
# Uses the active virtual environment, or else .venv, which it creates with $PYTHON (python3) if necessary.
# Packages that are there and satisfy the requirements, such as a build of torch for the CPU, are kept. A stamp
# in the environment records which requirements are installed: a second run installs nothing and needs no
# network.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." >/dev/null

fail() {
    echo "error: $*" >&2
    exit 1
}

find_environment() {
    environment="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"
    if [[ -z $environment ]]; then
        environment="$PWD/.venv"
        [[ -x $environment/bin/python ]] || make_environment
        export VIRTUAL_ENV="$environment"
    fi
    export PATH="$environment/bin:$PATH"
}

make_environment() {
    local python="${PYTHON:-python3}"
    command -v "$python" >/dev/null || fail "no $python: install Python 3.10 or later, or set PYTHON=…"
    check_version "$python"
    echo "Creating a virtual environment in $environment" >&2
    "$python" -m venv "$environment" ||
        fail "cannot create $environment; on Debian and Ubuntu, first run: apt-get install python3-venv"
}

check_version() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "Python 3.10 or later is needed; $1 is $("$1" --version 2>&1)"
}

checksum() {
    cat requirements.txt requirements-{data,serve,remote,dev}.txt | cksum
}

# The files that $1 contains, itself included.
included() {
    case "$1" in
    requirements-data.txt) echo "$1" ;;
    requirements.txt) echo "$1 requirements-data.txt" ;;
    requirements-serve.txt | requirements-remote.txt) echo "$1 requirements.txt requirements-data.txt" ;;
    *) echo "$1 requirements-serve.txt requirements-remote.txt requirements.txt requirements-data.txt" ;;
    esac
}

install_requirements() {
    local stamp="$environment/.stamp-$1" file
    [[ "$(cat "$stamp" 2>/dev/null)" != "$(checksum)" ]] || return 0
    echo "Installing $1 into $environment" >&2
    # Environments of interrupted installations or of other tools may lack pip.
    python -m pip --version >/dev/null 2>&1 || python -m ensurepip --default-pip || fail "no pip in $environment"
    python -m pip install --disable-pip-version-check -r "$1" || fail "cannot install $1; run this again to retry"
    # Written last, so that an interrupted installation is repeated. In a read-only environment pip runs every
    # time.
    for file in $(included "$1"); do
        checksum >"$environment/.stamp-$file" || true
    done 2>/dev/null
}

find_environment
check_version python
install_requirements "${REQUIREMENTS:-requirements.txt}"
