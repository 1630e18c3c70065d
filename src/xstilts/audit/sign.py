"""Sign a study's root manifest with a key of one's own, and check the signature.

`root.json` holds the sha256 of all manifests and records, and they of all files, so one signature
of that file is one of everything. It is a detached signature of OpenSSF model signing: a sigstore
bundle around an in-toto statement, which names `root.json` and its sha256. Its own command accepts
it too, without xstilts:

    model_signing verify key RESULTS --signature RESULTS/root.json.sig --public_key key.pub \
        --ignore_unsigned_files

Whoever can change files can write all manifests again, up to the root; without the private key the
signature then fits no longer. The public key must come another way than the results.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xstilts.artifacts.root import ROOT, SIGNATURE
from xstilts.audit.extra import extra
from xstilts.audit.findings import Finding
from xstilts.audit.finished import agreed_root
from xstilts.audit.results import open_results
from xstilts.errors import InputError

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_HOW = "README, 'Signing', has the two commands of openssl that make a pair of keys"


def run(options: argparse.Namespace) -> None:
    """Sign the results folder that the command line names."""
    results = open_results(options.path)
    root = agreed_root(results)
    sign(results.path, options.key, _passphrase(options.passphrase_env))
    print(f"{SIGNATURE}: signed, over {len(root.artifacts)} artifacts of the study {root.study}")


def _passphrase(variable: str | None) -> bytes | None:
    if variable is None:
        return None
    if variable not in os.environ:
        raise InputError(f"--passphrase-env {variable}", "there is no such environment variable")
    return os.environ[variable].encode()


def sign(results: Path, key: Path, passphrase: bytes | None = None) -> None:
    """Write the signature of a results folder's `root.json` beside it, in one step.

    Args:
        results: The results folder.
        key: The private key: PEM, of an elliptic curve (NIST P-256, P-384, P-521).
        passphrase: The private key's, if it has one.

    Raises:
        InputError: If the key cannot be used, or the folder cannot be written to.
    """
    signing, hashing = extra("model_signing.signing"), extra("model_signing.hashing")
    _check_private(key, passphrase)
    # The library passes the passphrase on as it is, and what it calls takes bytes.
    signer = signing.Config().use_elliptic_key_signer(private_key=key, password=passphrase)
    signer.set_hashing_config(hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False))
    draft = results / f".{SIGNATURE}.{os.getpid()}.tmp"
    try:
        with _alone(results) as folder:
            signer.sign(folder, draft)
        draft.replace(results / SIGNATURE)
    except OSError as error:
        raise InputError(
            str(results / SIGNATURE), f"cannot be written ({error.strerror})"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _alone(results: Path) -> Iterator[Path]:
    """A folder of the study's name that holds a copy of its `root.json` and nothing else.

    What is signed is every file of a folder; and a signature over some other file must not pass.
    """
    with tempfile.TemporaryDirectory(prefix="xstilts-") as scratch:
        folder = Path(scratch) / results.name
        folder.mkdir()
        (folder / ROOT).write_bytes((results / ROOT).read_bytes())
        yield folder


def verify_signature(results: Path, key: Path | None) -> list[Finding]:
    """Check the signature of a results folder's `root.json`.

    Args:
        results: The results folder.
        key: The public key that it must be of; None if none was given.

    Returns:
        Nothing where all is well, or where there is neither a signature nor a key.

    Raises:
        InputError: If the key cannot be used.
    """
    there = (results / SIGNATURE).is_file()
    if key is None:
        text = "there is a signature, and no key was given to check it with"
        hint = "--key FILE takes the signer's public key"
        return [_finding(text, hint=hint, level="note")] if there else []
    public = _public_key(key)
    if not there:
        return [_finding("there is no signature, and a key was given to check it with")]
    if not (results / ROOT).is_file():
        return [_finding("what was signed is not there", expected=ROOT)]
    return _check(results, key, public)


def _finding(problem: str, **more: Any) -> Finding:
    return Finding(SIGNATURE, "signature", problem, **more)


def _check(results: Path, key: Path, public: Any) -> list[Finding]:
    verifying = extra("model_signing.verifying")
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
    try:
        with _alone(results) as folder:
            verifier.verify(folder, results / SIGNATURE)
    except OSError as error:
        return [_finding(f"cannot be read ({error.strerror})")]
    except extra("cryptography.exceptions").InvalidSignature:
        return [_finding("does not fit the key: it is damaged, or was made with another key")]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # The library lets errors of its parsers through as they are.
        return [_why(str(error), public)]
    return []


def _why(said: str, public: Any) -> Finding:
    """What a message of the library means."""
    if said.startswith("Key mismatch"):
        return _finding("was made with another key", expected=f"the key {fingerprint(public)}")
    if said.startswith("Signature mismatch"):
        text = f"{ROOT} is not the one that was signed"
        return _finding(text, hint="It was changed, or made again, after it was signed")
    reason = next(iter(said.splitlines()), "")
    return _finding(f"is damaged ({reason})")


def fingerprint(public: Any) -> str:
    """The first 16 hex digits of the sha256 of a public key's PEM, as signatures name it."""
    import hashlib

    serialization = extra("cryptography.hazmat.primitives.serialization")
    pem: bytes = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(pem).hexdigest()[:16]


# ---- keys


def _check_private(path: Path, passphrase: bytes | None) -> None:
    serialization = extra("cryptography.hazmat.primitives.serialization")
    content = _read(path)
    try:
        key = serialization.load_pem_private_key(content, passphrase)
    except TypeError as error:
        wants = passphrase is None
        raise InputError(
            str(path),
            "has a passphrase" if wants else "has no passphrase, and one was given",
            hint="--passphrase-env NAME takes it from an environment variable" if wants else None,
        ) from error
    except ValueError as error:
        raise InputError(
            str(path),
            "is no private key in PEM, or its passphrase is another"
            if passphrase
            else "is no private key in PEM",
            hint=_HOW,
        ) from error
    _check_curve(path, key)


def _public_key(path: Path) -> Any:
    serialization = extra("cryptography.hazmat.primitives.serialization")
    content = _read(path)
    try:
        key = serialization.load_pem_public_key(content)
    except ValueError as error:
        private = b"PRIVATE KEY" in content
        raise InputError(
            str(path),
            "is a private key" if private else "is no public key in PEM",
            expected="the public key",
            hint="`openssl ec -in key.pem -pubout -out key.pub` writes it" if private else _HOW,
        ) from error
    _check_curve(path, key)
    return key


def _check_curve(path: Path, key: Any) -> None:
    curve = getattr(getattr(key, "curve", None), "name", type(key).__name__)
    if curve not in _CURVES:
        raise InputError(
            str(path),
            "is of a kind that cannot be used",
            expected="an elliptic curve, NIST P-256, P-384 or P-521",
            found=curve,
            hint=_HOW,
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})") from error
