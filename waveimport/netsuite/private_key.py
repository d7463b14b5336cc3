"""The private key of machine-to-machine logins: read from PEM, and fit for its algorithm.

Rules: RSA of 3072 or 4096 bits for PS256, PS384 and PS512; P-256, P-384, P-521 for ES256, ES384, ES512, each curve for
its one algorithm. Sources: Oracle, "OAuth 2.0 Client Credentials Setup"; RFC 7518, section 3.4.
"""

from typing import TYPE_CHECKING, Final

from waveimport.errors import BadSecret, BadValue, ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    SigningKey = RSAPrivateKey | EllipticCurvePrivateKey

RSA_BITS_LEAST: Final = 3072

# The curve of each algorithm, by the name that the library has for it and the one that NetSuite and openssl have.
_CURVES: Final = {
    "ES256": ("secp256r1", "P-256"),
    "ES384": ("secp384r1", "P-384"),
    "ES512": ("secp521r1", "P-521"),
}
_WHERE: Final = "[netsuite] private_key_file"


def signing_key(pem: str, algorithm: str) -> "SigningKey":
    """Return the private key that `pem` holds, fit to sign by `algorithm`.

    Raises BadSecret when there is no such key in it, or it is encrypted; BadValue when the algorithm does not go with
    it, or NetSuite takes none of its size. Nothing of the key is in any message.
    """
    # Costs a tenth of a second, which only those pay who log in this way.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except TypeError:  # the library's way of asking for a password
        raise BadSecret(
            "the private key is encrypted, and nobody is there to type its passphrase when cron starts a run",
            where=_WHERE,
            help="write it without one into a file of its own: openssl pkey -in KEY -out PLAIN && chmod 600 PLAIN",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadSecret(_no_key(pem), where=_WHERE, help=_how_it_begins(pem)) from None
    if algorithm in _CURVES:
        if isinstance(key, EllipticCurvePrivateKey) and key.curve.name == _CURVES[algorithm][0]:
            return key
    elif isinstance(key, RSAPrivateKey):
        if key.key_size >= RSA_BITS_LEAST:
            return key
        raise BadValue(
            f"the private key is RSA of {key.key_size} bits, and NetSuite takes none below {RSA_BITS_LEAST}",
            where=_WHERE,
            help=f"make a key of {RSA_BITS_LEAST} or 4096 bits and a certificate of it, and upload that to NetSuite",
        )
    raise _mismatch(_kind(key), algorithm)


def _no_key(pem: str) -> str:
    if "BEGIN CERTIFICATE" in pem:
        return "the file holds a certificate where its private key is due"
    if "PUBLIC KEY" in pem:
        return "the file holds a public key where the private one is due"
    return "the file holds no private key in PEM form"


def _how_it_begins(pem: str) -> str:
    if "BEGIN OPENSSH" in pem:
        return "this one is in OpenSSH's form: ssh-keygen -p -m PKCS8 -f KEY rewrites it in place"
    return "name the file that openssl wrote by -keyout; it begins with -----BEGIN PRIVATE KEY-----"


def _kind(key: object) -> str:
    """Return what a key is in the words of openssl's users: `RSA`, `EC P-256`, or the library's own name."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if isinstance(key, RSAPrivateKey):
        return "RSA"
    if isinstance(key, EllipticCurvePrivateKey):
        return f"EC {dict(_CURVES.values()).get(key.curve.name, key.curve.name)}"
    return type(key).__name__.removesuffix("PrivateKey")


def _mismatch(kind: str, algorithm: str) -> ConfigError:
    wanted = f"EC {_CURVES[algorithm][1]}" if algorithm in _CURVES else "RSA"
    fitting = {f"EC {curve}": name for name, (_, curve) in _CURVES.items()} | {"RSA": "PS256"}
    mend = f'set algorithm = "{fitting[kind]}", if that is the key of the certificate' if kind in fitting else None
    return BadValue(
        f"the private key is {kind}, and {algorithm} signs with {wanted}",
        where=_WHERE,
        help=mend or "NetSuite takes certificates of RSA 3072 or 4096, and of EC P-256, P-384 or P-521",
    )
