"""Refuses every connection that leaves this machine, and writes down that it was tried.

Copied as `sitecustomize.py` into a folder on PYTHONPATH, so that it stands in every Python process of a pipeline before
any library does. An audit hook sees what Python code does with sockets, libraries' too, and cannot be taken off; what
native code opens by itself it does not see.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any

WATCHED = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}


def _is_local(address: Any) -> bool:
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if host in (None, "", "localhost"):
        return True
    if str(host).startswith(("/", "\0")):  # a socket of this machine's file system
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in WATCHED:
        return
    address = arguments[0] if event.startswith("socket.get") else arguments[1]
    if not _is_local(address):
        with open(os.environ["NETWORK_ATTEMPTS"], "a", encoding="utf-8") as log:
            log.write(f"{event} {address!r} by {' '.join(sys.argv[:3])}\n")
        raise ConnectionRefusedError(f"the guard refuses {event} {address!r}")


sys.addaudithook(_watch)
