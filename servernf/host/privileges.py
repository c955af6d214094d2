"""What a process that reads strangers' packets and messages may do: once its sockets are open, nothing.

`confine` comes first, while there is one thread: from then on nothing that this process starts gains
anything. `drop` comes when sockets, keys and files are open: another user, no groups, no capabilities.

Only modules that are loaded by then can be used afterwards: the files of an installation below a
private home are not readable by the other user.

Sources: capabilities(7), prctl(2), credentials(7), linux/capability.h.
"""

from __future__ import annotations

import ctypes
import encodings.ascii
import encodings.idna
import encodings.latin_1
import os
import threading
import traceback  # what a later exception would load
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from servernf.wire.errors import EnvironmentMissing, InputError

__all__ = ("CAP_DAC_READ_SEARCH", "MAX_USER", "confine", "drop", "group", "user_number")

CAP_DAC_READ_SEARCH = 2
MAX_USER = (1 << 32) - 2

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG = 1, 2
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS = 4, 8
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x2008_0522
_libc = ctypes.CDLL(None, use_errno=True)
_LOADED = (encodings.ascii, encodings.idna, encodings.latin_1, traceback)


def user_number(text: str) -> int:
    """A user's number, which is not root's; raises ValueError."""
    number = int(text)
    if not 1 <= number <= MAX_USER:
        raise ValueError(f"'{text}' is no user but root")
    return number


@contextmanager
def group(number: int | None) -> Generator[None]:
    """What is made meanwhile is of a group: to give it away later takes CAP_CHOWN. None: as ever."""
    if number is None:
        yield
        return
    own, signal_at_death = os.getegid(), _signal_at_death()
    os.setegid(number)
    try:
        yield
    finally:
        os.setegid(own)
        # With another group the kernel forgets both.
        _prctl(_PR_SET_PDEATHSIG, signal_at_death)
        _prctl(_PR_SET_DUMPABLE, 1)


def confine() -> None:
    """Give up for good what `execve` could give: set-user-ID programs, root's capabilities."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    with suppress(OSError):  # a kernel older than 4.3 has no ambient set
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    capability = 0
    while _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        _prctl(_PR_CAPBSET_DROP, capability)
        capability += 1


def drop(user: int, keep: Collection[int] = ()) -> None:
    """Become user and group `user`, without capabilities but this thread's `keep`; not dumpable.

    All threads change (setresuid(3)); EnvironmentMissing if one has anything else.
    """
    if os.geteuid() != 0:
        raise InputError(f"--user {user}: only root can become another user")
    signal_at_death = _signal_at_death()
    try:
        _prctl(_PR_SET_KEEPCAPS, int(bool(keep)))
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        if keep:
            _set_capabilities(keep)
    except OSError as error:
        raise EnvironmentMissing(f"--user {user}: {error.strerror}") from error
    _prctl(_PR_SET_DUMPABLE, 0)
    # Another user's process is not told of its parent's end unless it asks again.
    _prctl(_PR_SET_PDEATHSIG, signal_at_death)
    _check(user, sum(1 << each for each in keep))


def _set_capabilities(keep: Collection[int]) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    for capability in keep:
        word, bit = divmod(capability, 32)
        data[3 * word] |= 1 << bit  # effective
        data[3 * word + 1] |= 1 << bit  # permitted
    if _libc.capset(header, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _check(user: int, kept: int) -> None:
    """Every thread is what it should be now."""
    wanted = {"Uid": [str(user)] * 4, "Gid": [str(user)] * 4, "Groups": [], "NoNewPrivs": ["1"]}
    this = str(threading.get_native_id())
    for task in Path("/proc/self/task").iterdir():
        try:
            lines = (task / "status").read_text().splitlines()
        except FileNotFoundError:
            continue  # a thread that has ended
        fields = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
        capabilities = [f"{kept if task.name == this else 0:016x}"]
        for name, value in {**wanted, "CapPrm": capabilities, "CapEff": capabilities}.items():
            if fields.get(name, value) != value:
                raise EnvironmentMissing(
                    f"--user {user}: thread {task.name} has {name} {' '.join(fields[name])}"
                )


def _signal_at_death() -> int:
    """What this thread is sent when the one that started it ends."""
    number = ctypes.c_int(0)
    _prctl(_PR_GET_PDEATHSIG, ctypes.addressof(number))
    return number.value


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl {option}: {os.strerror(error)}")
