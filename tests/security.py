"""How much of the attacks a test run tries: a share of each kind, or with SECURITY=all (`make test-security`) all."""

import os
from collections import Counter
from collections.abc import Callable, Iterable

ONE_OF = 4


def tried(attacks: Iterable[str], kind: Callable[[str], str] = lambda _: "") -> list[str]:
    """The first of each kind and every fourth after it; those that are left out are tried by `make test-security`."""
    if os.environ.get("SECURITY") == "all":
        return list(attacks)
    seen: Counter[str] = Counter()
    chosen = []
    for attack in attacks:
        of = kind(attack)
        if seen[of] % ONE_OF == 0:
            chosen.append(attack)
        seen[of] += 1
    return chosen
