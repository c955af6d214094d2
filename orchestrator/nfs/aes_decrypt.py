"""aes_decrypt: the far end of aes_encrypt: decrypts what enters inside, encrypts the other way."""

from __future__ import annotations

from orchestrator.model.elements import CostProfile
from orchestrator.nfs.base import network_function
from orchestrator.nfs.esp import EspFunction


@network_function("aes_decrypt")
class AesDecrypt(EspFunction):
    """Elements each port: `select` (stateless: IP, or ESP) and `encrypt` or `decrypt`."""

    plain_port = "outside"
    cost = CostProfile(62994, 0.0, "Lemur (CoNEXT'20), AESCBCde, 1500 B at 1.7 GHz")
