"""AES, decryption from inside to outside: see `servernf.python.esp`."""

from __future__ import annotations

from servernf.python.esp import EspEnd
from servernf.python.network_function import OUTSIDE, network_function


@network_function("aes_decrypt")
class AesDecrypt(EspEnd):
    """The plain text is outside."""

    plain_port = OUTSIDE
