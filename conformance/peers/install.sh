#!/usr/bin/env bash
# Installs a published program into a virtual environment of its own, target/peers/PACKAGE-VERSION, where the interop
# tests and the benchmark look for it: a LinkSocks release (a Python wheel around the Go program), or pywssocks, its
# predecessor in Python.
#
# Usage: conformance/peers/install.sh [[PACKAGE] VERSION]
#
# PACKAGE is linksocks (the default) or pywssocks. Quiet; does nothing when the version is already there.
set -euo pipefail

case $# in
0) package=linksocks version=1.10.1 ;;
1) package=linksocks version=$1 ;;
*) package=$1 version=$2 ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$root/target/peers/$package-$version
complete=$venv/.complete # written last, so that an interrupted installation starts again

case $package in
linksocks) check=("$root/conformance/peers/linksocks_cli.py" version) ;;
pywssocks) check=("$venv/bin/pywssocks" --help) ;;
*)
    echo "install.sh: unknown package $package" >&2
    exit 2
    ;;
esac
if [[ -e $complete ]]; then
    exit 0
fi

rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"
"$venv/bin/python" -m pip --quiet --disable-pip-version-check install --only-binary :all: "$package==$version"
"$venv/bin/python" "${check[@]}" >/dev/null
touch "$complete"
