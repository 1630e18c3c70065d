"""The signature of a root manifest: made, checked, and what it finds."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from xstilts import cli
from xstilts.artifacts.manifest import MANIFEST, Manifest, describe_files, sha256_file
from xstilts.artifacts.publish import publishing
from xstilts.artifacts.root import ROOT, SIGNATURE, Root, describe, write_root
from xstilts.audit.finished import agreed_root
from xstilts.audit.results import open_results
from xstilts.audit.sign import sign, verify_signature
from xstilts.errors import InputError

CHAIN = ("data/raw/d/en", "predictions/m/none/seed-1/d", "scores/m/none/seed-1/d", "tables")
PEM = serialization.Encoding.PEM
PASSPHRASE = b"sesame"


def write_keys(folder, name, curve=ec.SECP256R1, passphrase=None):
    """A pair of keys as openssl writes them: the private one's path, the public one's."""
    key = ec.generate_private_key(curve()) if curve else rsa.generate_private_key(65537, 2048)
    how = serialization.NoEncryption()
    if passphrase:
        how = serialization.BestAvailableEncryption(passphrase)
    form = serialization.PrivateFormat.PKCS8
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(PEM, form, how))
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(PEM, spki))
    return private, public


@pytest.fixture
def keys(tmp_path):
    return write_keys(tmp_path, "key")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A chain of artifacts with its root manifest, as a driver leaves it."""
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    above = None
    for out in CHAIN:
        spec = {"stage": out.split("/")[0], "inputs": {"above": above} if above else {}}
        with publishing(Path(out), spec) as draft:
            (draft.folder / "content").write_text(out)
        above = out
    write_root(folder, Root("small", {"study": "small"}, {}, describe(folder, CHAIN)))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def signed(results, keys):
    sign(results, keys[0])
    return results


def problems(results, key):
    found = verify_signature(results, key)
    assert all(finding.kind == "signature" for finding in found)
    return [(finding.level, finding.problem) for finding in found]


def rewrite(results, out, text):
    """Write a file of an artifact, and every manifest that follows from it, as an attacker would.

    Nothing but a signature can tell.
    """
    (results / out / "content").write_text(text)
    for place in CHAIN:
        path = results / place / MANIFEST
        known = json.loads(path.read_text())
        kept = describe_files(results / place)
        files = {name: kept[name] for name in known["files"]}
        inputs = {name: sha256_file(results / name / MANIFEST) for name in known["inputs"]}
        path.write_text(Manifest(place, known["spec"], inputs, files).to_json())
    write_root(results, Root("small", {"study": "small"}, {}, describe(results, CHAIN)))


def test_a_signature_holds_for_its_own_key_and_at_another_place(signed, keys, tmp_path):
    assert verify_signature(signed, keys[1]) == []
    moved = signed.rename(tmp_path / "moved")
    assert verify_signature(moved, keys[1]) == []


@pytest.mark.parametrize("curve", [ec.SECP384R1, ec.SECP521R1])
def test_keys_of_larger_curves_sign_too(results, tmp_path, curve):
    private, public = write_keys(tmp_path, "large", curve)
    sign(results, private)
    assert verify_signature(results, public) == []


def test_what_is_signed_is_root_json_and_nothing_else(signed):
    bundle = json.loads((signed / SIGNATURE).read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    (resource,) = statement["predicate"]["resources"]
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert resource["name"] == ROOT
    assert resource["digest"] == sha256_file(signed / ROOT)


def test_who_rewrites_the_whole_chain_is_found_by_the_signature_alone(signed, keys):
    before = (signed / ROOT).read_bytes()
    rewrite(signed, CHAIN[2], "a better score")
    # The chain is whole: it would be signed.
    assert agreed_root(open_results(signed)).study == "small"
    assert (signed / ROOT).read_bytes() != before
    assert problems(signed, keys[1]) == [("fault", "root.json is not the one that was signed")]


def test_a_signature_by_the_attackers_own_key_is_found(signed, keys, tmp_path):
    rewrite(signed, CHAIN[2], "a better score")
    private, public = write_keys(tmp_path, "attacker")
    sign(signed, private)
    assert problems(signed, public) == []
    assert problems(signed, keys[1]) == [("fault", "was made with another key")]
    # It may name the key that it is not of.
    bundle = json.loads((signed / SIGNATURE).read_text())
    bundle["verificationMaterial"]["publicKey"]["hint"] = sha256_file(keys[1])
    (signed / SIGNATURE).write_text(json.dumps(bundle))
    (found,) = problems(signed, keys[1])
    assert found == ("fault", "does not fit the key: it is damaged, or was made with another key")


def test_a_signature_of_another_file_by_the_same_key_does_not_pass(signed, keys, tmp_path):
    from model_signing import signing

    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "content").write_text("something else")
    signer = signing.Config().use_elliptic_key_signer(private_key=keys[0])
    signer.sign(folder, signed / SIGNATURE)
    (signed / "content").write_text("something else")
    assert problems(signed, keys[1]) == [("fault", "root.json is not the one that was signed")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace("dsseEnvelope", "envelope"),
        lambda text: text.replace("publicKey", "certificate"),
        lambda text: text.replace('"payload":"', '"payload":"A'),
        lambda text: text.replace('"payload":"e', '"payload":"f'),
    ],
)
def test_a_damaged_signature_is_a_fault(signed, keys, damage):
    text = (signed / SIGNATURE).read_text()
    changed = damage(json.dumps(json.loads(text), separators=(",", ":")))
    (signed / SIGNATURE).write_text(changed)
    ((level, problem),) = problems(signed, keys[1])
    assert level == "fault"
    assert "damaged" in problem


def test_without_a_key_a_signature_is_a_note_and_none_is_nothing(results, keys):
    assert verify_signature(results, None) == []
    sign(results, keys[0])
    ((level, problem),) = problems(results, None)
    assert level == "note"
    assert "no key was given" in problem


def test_with_a_key_no_signature_and_no_root_are_faults(results, keys):
    ((level, problem),) = problems(results, keys[1])
    assert (level, "there is no signature" in problem) == ("fault", True)
    sign(results, keys[0])
    (results / ROOT).unlink()
    assert problems(results, keys[1]) == [("fault", "what was signed is not there")]


def test_the_librarys_own_command_accepts_it(signed, keys):
    def check():
        options = ["--signature", signed / SIGNATURE, "--public_key", keys[1]]
        command = [sys.executable, "-m", "model_signing", "verify", "key", signed, *options]
        command.append("--ignore_unsigned_files")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert check() == (0, "Verification succeeded\n")
    rewrite(signed, CHAIN[2], "a better score")
    code, said = check()
    assert code == 1
    assert "Hash mismatch for" in said


# ---- the command


def run(results, key, *more):
    return cli.main(["audit", "sign", str(results), "--key", str(key), *more])


def test_the_command_signs(results, keys, capsys):
    assert not run(results, keys[0])
    assert verify_signature(results, keys[1]) == []
    assert capsys.readouterr().out == (
        "root.json.sig: signed, over 4 artifacts of the study small\n"
    )
    assert not list(results.glob(".*"))


def test_a_key_with_a_passphrase(results, tmp_path, monkeypatch, capsys):
    private, public = write_keys(tmp_path, "locked", passphrase=PASSPHRASE)
    assert run(results, private)
    assert "has a passphrase. --passphrase-env NAME" in capsys.readouterr().err
    assert run(results, private, "--passphrase-env", "XSTILTS_TEST_KEY")
    assert "no such environment variable" in capsys.readouterr().err
    monkeypatch.setenv("XSTILTS_TEST_KEY", "another")
    assert run(results, private, "--passphrase-env", "XSTILTS_TEST_KEY")
    assert "or its passphrase is another" in capsys.readouterr().err
    monkeypatch.setenv("XSTILTS_TEST_KEY", PASSPHRASE.decode())
    assert not run(results, private, "--passphrase-env", "XSTILTS_TEST_KEY")
    assert verify_signature(results, public) == []


def test_what_does_not_agree_with_the_root_is_not_signed(results, keys, capsys):
    (results / CHAIN[1] / MANIFEST).write_text("{}")
    assert run(results, keys[0])
    said = capsys.readouterr().err
    assert "does not say what lies there: 1 artifacts" in said
    assert CHAIN[1] in said
    (results / ROOT).unlink()
    assert run(results, keys[0])
    assert "Run snakemake to the end" in capsys.readouterr().err
    assert not (results / SIGNATURE).exists()


def test_keys_that_cannot_be_used(results, keys, tmp_path):
    sign(results, keys[0])
    with pytest.raises(InputError, match="is a private key; expected the public key"):
        verify_signature(results, keys[0])
    with pytest.raises(InputError, match="is no private key in PEM"):
        sign(results, keys[1])
    with pytest.raises(InputError, match="cannot be read"):
        sign(results, tmp_path / "nowhere.pem")
    private, public = write_keys(tmp_path, "rsa", curve=None)
    with pytest.raises(InputError, match="an elliptic curve, NIST P-256"):
        sign(results, private)
    with pytest.raises(InputError, match="an elliptic curve, NIST P-256"):
        verify_signature(results, public)
    private, _ = write_keys(tmp_path, "bitcoin", ec.SECP256K1)
    with pytest.raises(InputError, match="found secp256k1"):
        sign(results, private)


def test_without_the_library_it_says_what_to_install(results, keys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(InputError, match=r"pip install 'xstilts\[audit\]'"):
        sign(results, keys[0])
