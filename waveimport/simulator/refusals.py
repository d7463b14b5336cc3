"""The service's ways of saying no: one envelope, with the title, type and code of each status.

Source: Oracle, "Error Handling and Error Format in REST Web Services", and bodies seen in live accounts.
"""

from http import HTTPStatus

import msgspec

_RFC9110 = "https://www.rfc-editor.org/rfc/rfc9110.html#section-15."
_TYPES = {
    400: "5.1",
    401: "5.2",
    403: "5.4",
    404: "5.5",
    405: "5.6",
    406: "5.7",
    413: "5.14",
    429: "5.1",
    500: "6.1",
    503: "6.4",
}
_SEARCH = "Invalid search query. Detailed unprocessed description follows. "

LOGIN_DETAIL = (
    "Invalid login attempt. For more details, see the Login Audit Trail in the NetSuite UI at "
    "Setup > Users/Roles > User Management > View Login Audit Trail."
)


class Refusal(Exception):
    """A request that the service refuses. `place` is the envelope's member that names the culprit, and its value."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        place: tuple[str, str] | None = None,
        title: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.place = place
        self.title = title or HTTPStatus(status).phrase
        self.headers = headers or {}

    def body(self) -> bytes:
        """Return the envelope as JSON."""
        detail = {"detail": self.detail}
        if self.place:
            detail[self.place[0]] = self.place[1]
        detail["o:errorCode"] = self.code
        envelope = {
            "type": _RFC9110 + _TYPES[self.status],
            "title": self.title,
            "status": self.status,
            "o:errorDetails": [detail],
        }
        return msgspec.json.encode(envelope)


class OAuthRefusal(Refusal):
    """A token that the account does not give; the envelope is OAuth's own (RFC 6749, section 5.2)."""

    def __init__(self, error: str) -> None:
        super().__init__(400, error, error)

    def body(self) -> bytes:
        """Return the error as JSON."""
        return msgspec.json.encode({"error": self.code})


def bad_query(said: str) -> Refusal:
    """A query that cannot be answered; `said` is the search engine's own sentence."""
    return Refusal(400, "INVALID_PARAMETER", f"{_SEARCH}{said}", place=("o:errorQueryParam", "q"))


def unsupported(_why: str = "") -> Refusal:
    """A query outside the dialect. The service does not say why; the caller's reason stays in the code."""
    return bad_query("Search error occurred: Invalid or unsupported search.")


def unknown_table(name: str) -> Refusal:
    """A table that the service does not have."""
    return bad_query(f"Invalid search type: {name}.")


def hidden_table(name: str) -> Refusal:
    """A table that the role may not see."""
    return bad_query(f"Search error occurred: Record '{name}' was not found.")


def unknown_column(name: str, tables: dict[str, str]) -> Refusal:
    """A column that no table in the query has or shows; `tables` are the aliases in scope and what they stand for."""
    listed = ", ".join(f"{alias}={table}" for alias, table in tables.items())
    return bad_query(f"Search error occurred: Unknown identifier '{name}'. Available identifiers are: {{{listed}}}.")


def bad_parameter(name: str, detail: str) -> Refusal:
    """A URL parameter out of bounds."""
    return Refusal(400, "INVALID_PARAMETER", detail, place=("o:errorQueryParam", name))


def catalogue_forbidden() -> Refusal:
    """A role without the right to the metadata catalogue."""
    return Refusal(
        403,
        "INSUFFICIENT_PERMISSION",
        "Permission Violation: You need a higher level of the 'REST Web Services' permission to access this page. "
        "Please contact your account administrator.",
    )


def query_forbidden() -> Refusal:
    """A role without the right to REST web services, or to SuiteQL in them."""
    return Refusal(400, "USER_ERROR", "Your current role does not have permission to perform this action.")


def no_such_record(name: str) -> Refusal:
    """A record that the metadata catalogue has not, or not for this role. The wording is not documented."""
    return Refusal(404, "INVALID_CONTENT", f"Record type '{name}' does not exist.", place=("o:errorPath", name))


def invalid_login(realm: str) -> Refusal:
    """A login that failed; the service never says why."""
    challenge = f'OAuth realm="{realm}", error="token_rejected", error_description="Invalid login attempt."'
    return Refusal(401, "INVALID_LOGIN", LOGIN_DETAIL, headers={"WWW-Authenticate": challenge})


def invalid_token(realm: str) -> Refusal:
    """An access token that is unknown, over or revoked; the service does not say which."""
    challenge = f'Bearer realm="{realm}", error="invalid_token", error_description="Invalid login attempt."'
    return Refusal(401, "INVALID_LOGIN", LOGIN_DETAIL, headers={"WWW-Authenticate": challenge})


def too_many_requests(retry_after_seconds: int | None = None) -> Refusal:
    """More requests in flight than the account may have. Oracle's own sample calls it a Bad Request."""
    headers = {} if retry_after_seconds is None else {"Retry-After": str(retry_after_seconds)}
    return Refusal(
        429,
        "CONCURRENCY_LIMIT_EXCEEDED",
        "Concurrent request limit exceeded. Request blocked.",
        title="Bad Request",
        headers=headers,
    )


def unexpected(error_id: str) -> Refusal:
    """A fault of the service's own."""
    detail = f"An unexpected error occurred. Error ID: {error_id}"
    return Refusal(500, "UNEXPECTED_ERROR", detail)
