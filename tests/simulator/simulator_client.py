"""A client of the simulated account, with the libraries that importers sign with."""

from collections.abc import Callable

import requests
from requests_oauthlib import OAuth1

from waveimport.simulator.auth import Credentials
from waveimport.simulator.handle import Simulator
from waveimport.simulator.server import SUITEQL_PATH

Ask = Callable[..., requests.Response]


def signed(credentials: Credentials, **other: str) -> OAuth1:
    """Sign as an importer does; `other` replaces arguments of OAuth1."""
    words = {"signature_method": "HMAC-SHA256", "realm": credentials.account, **other}
    return OAuth1(
        credentials.consumer_key,
        credentials.consumer_secret,
        credentials.token_id,
        credentials.token_secret,
        **words,
    )


def asking(simulator: Simulator, session: requests.Session) -> Ask:
    """Return a function that posts one query to the account."""

    def post(query: str, limit: object = 1000, offset: object = 0, **options: object) -> requests.Response:
        given = {
            "json": {"q": query},
            "params": {"limit": limit, "offset": offset},
            "headers": {"Prefer": "transient"},
            "auth": signed(simulator.credentials),
            "allow_redirects": False,
            "timeout": 30,
        }
        return session.post(simulator.base_url + SUITEQL_PATH, **{**given, **options})

    return post


def said(response: requests.Response) -> str:
    """Return the detail of an error's envelope."""
    return response.json()["o:errorDetails"][0]["detail"]
