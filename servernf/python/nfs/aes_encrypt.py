"""AES, encryption from inside to outside: see `servernf.python.esp`."""

from __future__ import annotations

from servernf.python.esp import EspEnd
from servernf.python.network_function import INSIDE, network_function


@network_function("aes_encrypt")
class AesEncrypt(EspEnd):
    """The plain text is inside."""

    plain_port = INSIDE
