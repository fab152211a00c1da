#!/usr/bin/env bash
# Installs a published LinkSocks release (a Python wheel around the Go program) into a virtual environment of its
# own, target/peers/linksocks-VERSION, where the interop tests and the benchmark look for it.
#
# Usage: conformance/peers/install.sh [VERSION]
#
# Quiet; does nothing when the version is already there.
set -euo pipefail

version=${1:-1.10.1}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$root/target/peers/linksocks-$version
complete=$venv/.complete # written last, so that an interrupted installation starts again

if [[ -e $complete ]]; then
    exit 0
fi

rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"
"$venv/bin/python" -m pip --quiet --disable-pip-version-check install --only-binary :all: "linksocks==$version"
"$venv/bin/python" "$root/conformance/peers/linksocks_cli.py" version >/dev/null
touch "$complete"
