"""The key a workspace masks with: its own, always the same, and nothing that SECRET_KEY could be read from."""

from uuid import UUID

from dataaggregator.secrets import KeyRing
from services.executor.app import _mask_keys

RING = KeyRing("a secret key of more than thirty-two characters")


def test_each_workspace_has_a_key_of_its_own_and_keeps_it() -> None:
    one, two = UUID(int=1), UUID(int=2)
    assert _mask_keys(RING)(one) == _mask_keys(RING)(one) == RING.derive(f"mask:{one}").hex()
    assert _mask_keys(RING)(one) != _mask_keys(RING)(two)
    assert _mask_keys(KeyRing("another secret key of thirty-two characters"))(one) != _mask_keys(RING)(one)
