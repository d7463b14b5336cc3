"""Whether two long lists hold the same keys, in any order, without keeping either."""

import hashlib
from collections.abc import Iterable

_BITS = 128


def digest(keys: Iterable[int | str]) -> tuple[int, int]:
    """Return (how many keys, a number of them all) of a list; equal for two lists that hold the same keys as often.

    The number is the sum of a hash of each key, so that their order has no part in it and a key that comes twice
    counts twice, where an exclusive or would lose it. Two other lists agree by chance once in 2**128.
    """
    count = total = 0
    for key in keys:
        count += 1
        total += int.from_bytes(hashlib.blake2b(str(key).encode("utf-8", "surrogatepass"), digest_size=16).digest())
    return count, total % (1 << _BITS)
