#!/usr/bin/env python3
"""Checks all dependencies against deny.toml: what their licences are, and where they come from.

The same as `cargo deny check licenses sources` finds, without installing it. Standard library only.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
ROOT = Path(__file__).parent.parent


def allowed_licences(text):
    """The list `allow` of the section `licenses`. (tomllib needs Python 3.11.)"""
    section = re.search(r"^\[licenses\]$(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    allow = section and re.search(r"^allow\s*=\s*\[(.*?)\]", section[1], re.MULTILINE | re.DOTALL)
    if not allow:
        sys.exit("deny.toml has no list of licences")
    return set(re.findall(r'"([^"]+)"', allow[1]))


def is_satisfiable(expression, allowed):
    """Whether an SPDX expression leaves a choice of which everything is allowed."""
    # Old packages have a slash for OR.
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def one():
        token = tokens.pop(0)
        if token == "(":
            choice = any_of()
            if tokens.pop(0) != ")":
                raise ValueError
            return choice
        if token in (")", "AND", "OR", "WITH"):
            raise ValueError
        if tokens[:1] == ["WITH"]:
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        return token in allowed

    def all_of():
        choice = one()
        while tokens[:1] == ["AND"]:
            tokens.pop(0)
            choice &= one()
        return choice

    def any_of():
        choice = all_of()
        while tokens[:1] == ["OR"]:
            tokens.pop(0)
            choice |= all_of()
        return choice

    try:
        choice = any_of()
    except (IndexError, ValueError):
        return False
    return choice and not tokens


def complaints(packages, allowed):
    """What is wrong with packages, as `cargo metadata` tells of them."""
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["source"] not in (None, CRATES_IO):
            yield f"{name} comes from {package['source']}"
        licence = package["license"]
        if licence is None:
            yield f"{name} names no licence"
        elif not is_satisfiable(licence, allowed):
            yield f"{name} is under {licence}"


def check_oneself():
    """A check that lets everything pass is none."""
    allowed = {"MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"}
    for expression, expected in [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT/GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT AND ISC", True),
        ("(GPL-3.0-only OR MIT) AND ISC", True),
        ("(GPL-3.0-only OR MIT) AND Zlib", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("MIT WITH LLVM-exception", False),
        ("MIT OR", False),
        ("(MIT", False),
        ("MIT ISC", False),
        ("", False),
    ]:
        assert is_satisfiable(expression, allowed) == expected, expression
    package = {"name": "x", "version": "1", "source": "git+https://example.com/x", "license": None}
    assert len(list(complaints([package], allowed))) == 2


def main():
    check_oneself()
    command = ["cargo", "metadata", "--locked", "--all-features", "--format-version", "1"]
    metadata = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    packages = json.loads(metadata.stdout)["packages"]
    found = list(complaints(packages, allowed_licences((ROOT / "deny.toml").read_text())))
    for complaint in found:
        print(complaint, file=sys.stderr)
    if found:
        sys.exit("deny.toml does not allow that")
    print(f"{len(packages)} packages, and nothing that deny.toml does not allow")


if __name__ == "__main__":
    main()
