"""Private keys for tests, each made once a process: RSA ones take a while to be found."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1(), "secp256k1": ec.SECP256K1()}
KIND_OF = {
    "PS256": "RSA 3072", "PS384": "RSA 3072", "PS512": "RSA 3072",
    "ES256": "P-256", "ES384": "P-384", "ES512": "P-521",
}  # fmt: skip
"""A kind of key that goes with each algorithm."""


@cache
def key(kind: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    """Return the key of a kind: `RSA 3072`, `P-256`, `Ed25519` …"""
    if kind.startswith("RSA "):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("RSA ")))
    return ed25519.Ed25519PrivateKey.generate() if kind == "Ed25519" else ec.generate_private_key(CURVES[kind])


@cache
def pem(kind: str, *, form: PrivateFormat = PrivateFormat.PKCS8, passphrase: bytes = b"") -> str:
    """Return the private key of a kind as a file holds it."""
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key(kind).private_bytes(Encoding.PEM, form, encryption).decode()


@cache
def public_pem(kind: str) -> str:
    """Return the public key of a kind as a file holds it."""
    return key(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
