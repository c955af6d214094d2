"""aes_encrypt: encrypts what enters inside; from outside only what is encrypted passes, decrypted."""

from __future__ import annotations

from orchestrator.model.elements import CostProfile
from orchestrator.nfs.base import network_function
from orchestrator.nfs.esp import EspFunction


@network_function("aes_encrypt")
class AesEncrypt(EspFunction):
    """Elements each port: `select` (stateless: IP, or ESP) and `encrypt` or `decrypt`."""

    plain_port = "inside"
    cost = CostProfile(44263, 0.0, "Lemur (CoNEXT'20), AESCBC, 1500 B at 1.7 GHz")
