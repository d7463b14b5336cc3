"""What reaches a database, counted: statements by their first words, BEGIN and COMMIT apart."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from waveimport.store.transactions import Database


class Statements:
    """The statements of all connections since `watching` began; `texts` with their parameters, in order."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, Any]] = []
        self.commits = 0

    def by_words(self, words: int = 2) -> Counter[str]:
        """Count them by the words that they begin with, without quotes."""
        return Counter(" ".join(text.replace("`", "").split()[:words]) for text, _ in self.texts)

    def __len__(self) -> int:
        return len(self.texts)


@contextmanager
def watching(database: Database) -> Iterator[Statements]:
    """Count what reaches the driver by way of SQLAlchemy, an executemany as one."""
    seen = Statements()

    def statement(connection: Any, cursor: Any, text: str, parameters: Any, context: Any, many: bool) -> None:
        seen.texts.append((text, parameters[0] if many else parameters))

    def commit(connection: Any) -> None:
        seen.commits += 1

    event.listen(database.engine, "before_cursor_execute", statement)
    event.listen(database.engine, "commit", commit)
    try:
        yield seen
    finally:
        event.remove(database.engine, "before_cursor_execute", statement)
        event.remove(database.engine, "commit", commit)
