"""AES, encryption from inside to outside: see `servernf.esp`."""

from __future__ import annotations

from servernf.esp import EspEnd
from servernf.network_function import INSIDE, network_function


@network_function("aes_encrypt")
class AesEncrypt(EspEnd):
    """The plain text is inside."""

    plain_port = INSIDE
