"""Another date for a process that faketime(1) cannot reach: a program written in Go asks the kernel, not the C library.

It asks through the vDSO, a page of code that the kernel lends to every process.  :class:`Shift` writes another
``clock_gettime`` over the one in the copy of a single process: it makes the system call, and adds so many seconds to the
calendar's clock, and nothing to the clocks that measure how long something takes.  No other process sees any of it.

Linux on x86-64, as root.
"""

from __future__ import annotations

import platform
import struct

from tests.lab.namespace import Unavailable

#: mov eax, __NR_clock_gettime; syscall; test edi, edi; jne end; mov rcx, [rip+14]; add [rsi], rcx; end: ret
_CODE = bytes.fromhex("b8e4000000 0f05 85ff 750a 488b0d0e000000 48010e c3")
#: Where the seconds are, behind the beginning of the code.
_SECONDS = 32
_PT_LOAD, _PT_DYNAMIC, _DT_STRTAB, _DT_SYMTAB = 1, 2, 5, 6


class Shift:
    """The clock of one process.

    :param pid: of a process that has done with starting.
    :raises Unavailable: not on this machine.
    """

    def __init__(self, pid: int) -> None:
        if platform.machine() != "x86_64":
            raise Unavailable("another date for the CA needs a machine of x86-64")
        self._memory = f"/proc/{pid}/mem"
        begin, end = _vdso(pid)
        self._at = begin + _function(self._read(begin, end - begin), b"__vdso_clock_gettime")
        # The seconds first: from its first instruction on, the code finds them.
        self.set(0)
        self._write(self._at, _CODE)

    def set(self, seconds: int) -> None:
        """Add so many seconds to the calendar's clock from now on."""
        self._write(self._at + _SECONDS, struct.pack("<q", seconds))

    def _read(self, at: int, size: int) -> bytes:
        with open(self._memory, "rb", buffering=0) as memory:
            memory.seek(at)
            return memory.read(size)

    def _write(self, at: int, data: bytes) -> None:
        with open(self._memory, "r+b", buffering=0) as memory:
            memory.seek(at)
            memory.write(data)


def _vdso(pid: int) -> tuple[int, int]:
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            if line.rstrip().endswith("[vdso]"):
                begin, end = line.split()[0].split("-")
                return int(begin, 16), int(end, 16)
    raise Unavailable(f"process {pid} has no vDSO")


def _function(image: bytes, wanted: bytes) -> int:
    """Where a function begins in an ELF image of 64 bits; elf(5)."""
    (table,), (count,) = struct.unpack_from("<Q", image, 32), struct.unpack_from("<H", image, 56)
    segments = {fields[0]: fields for fields in struct.iter_unpack("<IIQQQQQQ", image[table : table + 56 * count])}
    base = segments[_PT_LOAD][3] - segments[_PT_LOAD][2]
    offset, size = segments[_PT_DYNAMIC][2], segments[_PT_DYNAMIC][5]
    dynamic = dict(struct.iter_unpack("<QQ", image[offset : offset + size]))
    symbol, strings = dynamic[_DT_SYMTAB] - base, dynamic[_DT_STRTAB] - base
    # The strings come right behind the symbols.
    while symbol < strings:
        name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", image, symbol)
        if image[strings + name : image.index(0, strings + name)] == wanted:
            return int(value - base)
        symbol += 24
    raise Unavailable("a vDSO without clock_gettime")
