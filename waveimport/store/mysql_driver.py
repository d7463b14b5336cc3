"""PyMySQL's connection, without what it does for nothing.

PyMySQL offers TLS to every server, and where no certificate is to be checked, as by default, it reads the certificates
of the whole system anew for each connection: 53 ms of processor time, for nobody.
"""

import ssl
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pymysql.connections import Connection

if TYPE_CHECKING:
    _Connection = Connection[Any]
else:
    _Connection = Connection


class QuickConnection(_Connection):
    """A connection whose TLS, where nothing is to be checked, is set up once a process. What the URL says of TLS is
    left to PyMySQL."""

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        if sslp:
            made: ssl.SSLContext = super()._create_ssl_ctx(sslp)  # type: ignore[misc]
            return made
        return _unchecked()


@lru_cache(maxsize=1)
def _unchecked() -> ssl.SSLContext:
    """Return what PyMySQL makes where nothing is to be checked, without the certificates that are not looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
