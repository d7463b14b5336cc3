"""How often the interpreter looks for garbage, in a command and while pages are read.

Rows are tuples by the thousand, which the interpreter counts as new objects that may be part of a cycle and never are.
At its usual threshold of 700 it looks at them again and again, and every so often at all there is: a tenth of an
import's processor time. What a command imports before it does anything is as many objects, and none is garbage either.
"""

import contextlib
import gc
from collections.abc import Iterator

NEW_OBJECTS = 20_000
"""New objects that are not yet gone before the interpreter looks for cycles: more than one page, and few enough that
what is part of a cycle does not pile up (at 100,000 it was 12 MB)."""


@contextlib.contextmanager
def collected_rarely() -> Iterator[None]:
    """Have cycles looked for rarely inside the block. What is not part of one goes at once, as always."""
    before = gc.get_threshold()
    # Who has switched it off, or set it higher, knows better.
    if 0 < before[0] < NEW_OBJECTS:
        gc.set_threshold(NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
