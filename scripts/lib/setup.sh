#!/usr/bin/env bash
# Sourced by the other scripts: goes to the project's folder, so that relative paths mean the same from anywhere,
# and makes `python` one that has the requirements. The script may set REQUIREMENTS before.
#
# Uses the virtual environment that is active, else .venv, made with $PYTHON (python3) if it is not there. A stamp
# in the environment says which requirements it holds: a second run installs nothing and needs no network.
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
    command -v "$python" >/dev/null || fail "no $python: install Python 3.10 or later, or name one with PYTHON=…"
    check_version "$python"
    echo "Making a virtual environment in $environment" >&2
    "$python" -m venv "$environment" ||
        fail "cannot make $environment; Debian and Ubuntu need: apt-get install python3-venv"
}

check_version() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "Python 3.10 or later is needed; $1 is $("$1" --version 2>&1)"
}

checksum() {
    cat requirements.txt requirements-dev.txt | cksum
}

install_requirements() {
    local stamp="$environment/.stamp-$1"
    [[ "$(cat "$stamp" 2>/dev/null)" != "$(checksum)" ]] || return 0
    echo "Installing $1 into $environment" >&2
    # An installation that was interrupted, or another tool's, may lack pip.
    python -m pip --version >/dev/null 2>&1 || python -m ensurepip --default-pip || fail "no pip in $environment"
    python -m pip install --disable-pip-version-check -r "$1" || fail "cannot install $1; run this again to go on"
    # Only now, so that what was interrupted is repeated. The developers' requirements include the others. An
    # environment that is read-only is asked every time.
    checksum | tee "$environment/.stamp-requirements.txt" "$stamp" >/dev/null 2>&1 || true
}

find_environment
check_version python
install_requirements "${REQUIREMENTS:-requirements.txt}"
