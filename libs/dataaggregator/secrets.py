"""Sealing: envelope encryption of secrets under keys derived from SECRET_KEY."""

import hashlib
import os
import struct
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dataaggregator.errors import Permanent

_FORMAT = b"\x01"
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
_WRAPPED_BYTES = 32 + 16
_HEADER = struct.Struct(f"!1s{_KEY_ID_BYTES}s{_NONCE_BYTES}s{_WRAPPED_BYTES}s{_NONCE_BYTES}s")


class KeyRing:
    """SECRET_KEY and its predecessors; derives keys for named purposes (HKDF-SHA256, RFC 5869).

    Sealed bytes: format 1 · id of the secret key 8 · nonce 12 · wrapped data key 48 · nonce 12 · AES-256-GCM of the
    plaintext. The data key is random for each secret; what is wrapped and what is sealed are both bound to purpose
    and ``aad``.
    """

    def __init__(self, secret_key: str, previous: Sequence[str] = ()) -> None:
        self._key = secret_key.encode()
        self._by_id = {_key_id(key.encode()): key.encode() for key in (*previous, secret_key)}
        self._id = _key_id(self._key)

    @property
    def present_id(self) -> bytes:
        """The id of the present SECRET_KEY, by which what it has sealed begins (after the format)."""
        return self._id

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose, always the same for the present SECRET_KEY."""
        return _derive(self._key, purpose)

    def seal(self, plaintext: bytes, *, aad: str, purpose: str) -> bytes:
        """Seal; ``aad`` says where it belongs (workspace|connector|field) and must be the same at opening."""
        bound = f"{purpose}|{aad}".encode()
        data_key, wrap_nonce, nonce = os.urandom(32), os.urandom(_NONCE_BYTES), os.urandom(_NONCE_BYTES)
        wrapped = AESGCM(self.derive(f"seal:{purpose}")).encrypt(wrap_nonce, data_key, bound)
        header = _HEADER.pack(_FORMAT, self._id, wrap_nonce, wrapped, nonce)
        return header + AESGCM(data_key).encrypt(nonce, plaintext, bound)

    def open(self, sealed: bytes, *, aad: str, purpose: str) -> bytes:
        """Open; raises Permanent if it was sealed with a key not on the ring, for another place, or was changed."""
        bound = f"{purpose}|{aad}".encode()
        try:
            kind, key_id, wrap_nonce, wrapped, nonce = _HEADER.unpack_from(sealed)
            if kind != _FORMAT:
                raise _unreadable("it has an unknown format")
            secret = self._by_id.get(key_id)
            if secret is None:
                raise _unreadable("it was sealed with another SECRET_KEY")
            data_key = AESGCM(_derive(secret, f"seal:{purpose}")).decrypt(wrap_nonce, wrapped, bound)
            return AESGCM(data_key).decrypt(nonce, sealed[_HEADER.size :], bound)
        except (struct.error, InvalidTag):
            raise _unreadable("it was changed, or belongs to another place") from None

    def knows(self, sealed: bytes) -> bool:
        """Was it sealed with a key that is on the ring?"""
        return sealed[1 : 1 + _KEY_ID_BYTES] in self._by_id

    def outdated(self, sealed: bytes) -> bool:
        """Was it sealed with an earlier SECRET_KEY, so that it should be sealed anew?"""
        return sealed[1 : 1 + _KEY_ID_BYTES] != self._id


def _derive(key: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"dataaggregator:{purpose}".encode()).derive(key)


def _key_id(key: bytes) -> bytes:
    """Names a key without telling anything about it."""
    return hashlib.sha256(_derive(key, "key-id")).digest()[:_KEY_ID_BYTES]


def _unreadable(why: str) -> Permanent:
    return Permanent("sealed-data-unreadable", f"A stored secret cannot be opened: {why}.")
