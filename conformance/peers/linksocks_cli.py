"""Runs the command line of an installed LinkSocks wheel.

The `server` command of the wheels 1.8.13 to 1.10.1 fails at once, because it calls four setters that its option class
lacks. They are added here, and only where they are missing, so that one launcher serves every release.
"""

from linksocks import _base
from linksocks._cli import cli

SETTERS = {
    "WithDirectEnable": "direct_enable",
    "WithDirectRendezvousUDP": "direct_rendezvous_udp",
    "WithDirectRendezvousHost": "direct_rendezvous_host",
    "WithDirectRendezvousPort": "direct_rendezvous_port",
}


def setter(key):
    """A method that stores its argument in the option's configuration under `key`."""

    def store(self, value):
        self._cfg[key] = value

    return store


def main():
    options = getattr(_base, "_FFIServerOption", None)
    if options is not None:
        for name, key in SETTERS.items():
            if not hasattr(options, name):
                setattr(options, name, setter(key))
    cli()


if __name__ == "__main__":
    main()
