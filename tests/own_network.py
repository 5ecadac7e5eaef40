"""`own_network.py COUNT COMMAND...`: the command in a network of its own, which has loopback and no way out.

The kernel refuses whatever would leave it, and counts that, whoever asked: native code and resolvers, too. The count
is written to the file COUNT. The status is the command's own, or NOT_PERMITTED where no such network may be made.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

NOT_PERMITTED = 77
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def leave_the_network() -> bool:
    """Whether this process is in a network of its own now: as root at once, else as the root of a user namespace."""
    unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    if unshare is None:
        return False
    uid, gid = os.getuid(), os.getgid()
    if unshare(CLONE_NEWNET) != 0:
        if ctypes.get_errno() != errno.EPERM or unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            return False
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
    return True


def refused() -> int:
    """How often something had no route so far, in IPv4 and IPv6."""
    names, values = re.findall(r"^Ip: (.*)$", Path("/proc/self/net/snmp").read_text(), re.MULTILINE)
    found = int(dict(zip(names.split(), values.split(), strict=True))["OutNoRoutes"])
    newer = Path("/proc/self/net/snmp6")  # not there without IPv6
    return found + sum(map(int, re.findall(r"Ip6OutNoRoutes\s+(\d+)", newer.read_text() if newer.exists() else "")))


if __name__ == "__main__":
    if not leave_the_network():
        sys.exit(NOT_PERMITTED)
    status = subprocess.run(sys.argv[2:], check=False).returncode
    Path(sys.argv[1]).write_text(str(refused()))
    sys.exit(status)
