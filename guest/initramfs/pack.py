#!/usr/bin/env python3
"""Packs the agent into an initramfs (cpio, newc).

    pack.py AGENT OUT

Written here rather than by cpio(1): /dev/console is a device node, which cpio can only copy from one that root made,
and the result must not depend on who builds it or when.
"""
import os
import stat
import sys

# libkrun puts the initramfs at the very end of the guest's memory. Where it begins within a page the kernel
# frees one that is not its own, and warns of it with a stack trace at every boot.
PAGE = 4096


def entry(inode, name, mode, data=b"", device=(0, 0)):
    path = name.encode() + b"\0"
    fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0]
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return pad(header) + pad(data)


def pad(data):
    return data + b"\0" * (-len(data) % 4)


def main():
    agent, out = sys.argv[1:]
    with open(agent, "rb") as file:
        init = file.read()
    entries = [(name, stat.S_IFDIR | 0o755, b"", (0, 0)) for name in ("dev", "proc", "sys", "mnt")]
    # The kernel opens it for the agent's messages before anything is mounted.
    entries.append(("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)))
    entries.append(("init", stat.S_IFREG | 0o755, init, (0, 0)))
    entries.append(("TRAILER!!!", 0, b"", (0, 0)))
    temporary = out + ".tmp"
    with open(temporary, "wb") as file:
        for inode, (name, mode, data, device) in enumerate(entries, 1):
            file.write(entry(inode, name, mode, data, device))
        file.write(b"\0" * (-file.tell() % PAGE))
    os.replace(temporary, out)


main()
