#!/bin/sh
# Set up a fresh machine: Debian packages where root allows, a virtual environment, the package.
# usage: setup.sh VENV PYTHON
set -eu
venv=$1
python=$2
packages="mininet ethtool iproute2 iputils-ping tcpdump python3-venv openssl gcc libc6-dev"
# A test of several controllers needs it; elsewhere its package would start a service unasked.
[ -z "${CI:-}" ] || packages="$packages etcd-server"

missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
if [ -n "$missing" ] && command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then
        echo "setup: installing$missing"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq || echo "setup: apt-get update failed; going on with the lists at hand"
        # shellcheck disable=SC2086  # a list of names
        apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "setup: not root, so without:$missing (the in-memory network needs none of them)"
    fi
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: $python is older than 3.11; say PYTHON=..." >&2
    exit 4
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# Only what the lock says, hash by hash; then the project's two distributions, which may bring nothing more.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --require-hashes --only-binary :all: -r requirements.lock
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --no-deps --no-build-isolation -e servernf -e .
# What Python loads of servernf/wire's C; without a compiler it does without.
"$venv/bin/python" -m servernf.wire.native || :
