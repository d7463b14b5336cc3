"""The private key: each one that cannot sign is told in one sentence, with its mend, and nothing of it is shown."""

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat
from netsuite_keys import KIND_OF, pem, public_pem

from waveimport.errors import BadSecret, BadValue, ConfigError
from waveimport.netsuite.private_key import signing_key

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("algorithm", KIND_OF)
def test_a_key_that_goes_with_its_algorithm_is_taken(algorithm: str) -> None:
    assert signing_key(pem(KIND_OF[algorithm]), algorithm).key_size in (256, 384, 521, 3072)


@pytest.mark.parametrize("kind", ["RSA 3072", "P-256"])
def test_the_older_form_of_openssl_is_taken_too(kind: str) -> None:
    taken = signing_key(pem(kind, form=PrivateFormat.TraditionalOpenSSL), "PS256" if "RSA" in kind else "ES256")
    assert taken.key_size == int(kind.replace("-", " ").split()[1])


@pytest.mark.parametrize("passphrase_form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_told_with_the_command_that_writes_it_plain(passphrase_form: PrivateFormat) -> None:
    with pytest.raises(BadSecret, match="is encrypted") as caught:
        signing_key(pem("P-256", form=passphrase_form, passphrase=b"secret"), "ES256")
    assert "openssl pkey -in" in (caught.value.help or "")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hunter2", "holds no private key in PEM form"),
        ("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n", "holds no private key in PEM form"),
        (CERTIFICATE, "holds a certificate where its private key is due"),
        (public_pem("P-256"), "holds a public key where the private one is due"),
        (pem("P-256", form=PrivateFormat.OpenSSH), "holds no private key in PEM form"),
    ],
    ids=["no PEM", "damaged", "certificate", "public key", "OpenSSH"],
)
def test_a_file_without_a_private_key_is_told_by_what_it_holds(text: str, sentence: str) -> None:
    with pytest.raises(BadSecret, match=sentence) as caught:
        signing_key(text, "ES256")
    assert caught.value.help
    assert "hunter2" not in caught.value.render()


def test_the_form_of_openssh_comes_with_the_command_that_mends_it() -> None:
    with pytest.raises(BadSecret) as caught:
        signing_key(pem("P-256", form=PrivateFormat.OpenSSH), "ES256")
    assert "ssh-keygen -p -m PKCS8" in (caught.value.help or "")


@pytest.mark.parametrize(
    ("kind", "algorithm", "sentence", "mend"),
    [
        ("RSA 2048", "PS256", "RSA of 2048 bits, and NetSuite takes none below 3072", "3072 or 4096"),
        ("RSA 3072", "ES256", "the private key is RSA, and ES256 signs with EC P-256", 'algorithm = "PS256"'),
        ("P-256", "PS256", "the private key is EC P-256, and PS256 signs with RSA", 'algorithm = "ES256"'),
        ("P-384", "ES256", "the private key is EC P-384, and ES256 signs with EC P-256", 'algorithm = "ES384"'),
        ("P-256", "ES512", "the private key is EC P-256, and ES512 signs with EC P-521", 'algorithm = "ES256"'),
        ("secp256k1", "ES256", "the private key is EC secp256k1, and ES256 signs with EC P-256", "P-256, P-384 or"),
        ("Ed25519", "ES256", "the private key is Ed25519, and ES256 signs with EC P-256", "P-256, P-384 or P-521"),
    ],
)
def test_a_key_that_does_not_go_with_the_algorithm_is_told_with_the_one_that_does(
    kind: str, algorithm: str, sentence: str, mend: str
) -> None:
    with pytest.raises(BadValue, match=sentence) as caught:
        signing_key(pem(kind), algorithm)
    assert mend in (caught.value.help or "")


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA 2048", "PS256"), ("P-384", "ES256")])
def test_no_line_of_a_refused_key_is_shown(kind: str, algorithm: str) -> None:
    with pytest.raises(ConfigError) as caught:
        signing_key(pem(kind), algorithm)
    for line in pem(kind).splitlines():
        assert line not in caught.value.render()
