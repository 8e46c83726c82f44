"""The digest is the identity: the same for the same content, another for any other."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from headgate.errors import PackageError
from headgate.package.manifest import Manifest, check_digest, check_paths, decode_manifest
from headgate.package.signature import Signature, TensorSpec

NAMES = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}", fullmatch=True)
HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
SPECS = st.builds(
    TensorSpec,
    name=st.text(max_size=5),
    dtype=st.sampled_from(["FP32", "BYTES"]),
    shape=st.tuples(st.integers(-1, 9)),
    optional=st.booleans(),
)
SIDES = {"inputs": st.tuples(SPECS), "outputs": st.tuples(SPECS), "batched": st.booleans()}
FURTHER = st.builds(Signature, **SIDES, name=st.text(min_size=1, max_size=5), method=st.sampled_from(["", "classify", "regress"]))
SIGNATURES = st.builds(Signature, **SIDES, parameters=st.booleans(), further=st.lists(FURTHER, max_size=2).map(tuple))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    files = draw(st.dictionaries(NAMES, HEX, min_size=1, max_size=6))
    return Manifest(
        runtime=draw(st.sampled_from(["onnx", "python"])),
        entry=min(files),
        signature=draw(SIGNATURES),
        files=files,
        idempotent=draw(st.booleans()),
        python=draw(st.none() | st.just("3.11")),
        requirements=draw(st.none() | HEX),
        lock=draw(st.none() | HEX),
        example=draw(st.none() | HEX),
    )


@given(manifests(), st.randoms(use_true_random=False))
def test_digest_does_not_depend_on_order(manifest: Manifest, chance: random.Random) -> None:
    """Whatever order the files were found in, and however often it is written and read, the digest is the same."""
    paths = list(manifest.files)
    chance.shuffle(paths)
    shuffled = msgspec.structs.replace(manifest, files={path: manifest.files[path] for path in paths})
    assert shuffled.digest == manifest.digest
    again = decode_manifest(shuffled.encode())
    assert again == manifest
    assert again.encode() == manifest.encode()


def test_the_digest_of_a_package_stays_what_it_was() -> None:
    """What later versions of Headgate can say of a model is not written where there is nothing to say."""
    tensors = [TensorSpec(name="x", dtype="FP32", shape=(-1, 4)), TensorSpec(name="y", dtype="BYTES", shape=(-1,))]
    signature = Signature(inputs=(tensors[0],), outputs=(tensors[1],), batched=True)
    manifest = Manifest(runtime="onnx", entry="m.onnx", signature=signature, files={"m.onnx": "0" * 64})
    assert manifest.digest == "sha256:cf5a03679e0bdd9e81b3d58f6bee7d9f57d311aad712c6c52e2bc77d5916f20f"


@given(manifests(), manifests())
def test_digests_differ_where_manifests_do(one: Manifest, other: Manifest) -> None:
    """Two manifests have the same digest exactly if they are equal."""
    assert (one.digest == other.digest) == (one == other)


@given(manifests(), HEX, SIGNATURES)
def test_source_digest_is_that_of_the_inputs(manifest: Manifest, lock: str, signature: Signature) -> None:
    """What is found out (lock, signature, platform) leaves the source digest alone; what the user gave changes it."""
    found_out = msgspec.structs.replace(manifest, lock=lock, signature=signature, idempotent=not manifest.idempotent, platform="p")
    assert found_out.source_digest == manifest.source_digest
    given = msgspec.structs.replace(manifest, files={**manifest.files, "another": lock})
    assert given.source_digest != manifest.source_digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 2"),
        ({"entry": "other.onnx"}, "entry 'other.onnx'"),
        ({"files": {"m.onnx": "00"}}, "m.onnx"),
        ({"files": {"../m.onnx": "0" * 64}}, "'../m.onnx'"),
        ({"lock": "../../x"}, "pylock.toml"),
        ({"runtime": 3}, "runtime"),
    ],
)
def test_a_wrong_manifest_is_refused(change: dict[str, Any], said: str) -> None:
    """A manifest from elsewhere is believed in nothing; the message names what is wrong."""
    fields = {"runtime": "onnx", "entry": "m.onnx", "signature": {"inputs": [], "outputs": []}, "files": {"m.onnx": "0" * 64}}
    decode_manifest(msgspec.json.encode(fields))
    with pytest.raises(PackageError, match=r"manifest\.json|path") as caught:
        decode_manifest(msgspec.json.encode(fields | change))
    assert said in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"runtime": "onnx"}', b"[" * 100_000])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    """Damaged bytes are a refusal with a reason."""
    with pytest.raises(PackageError, match=r"manifest\.json: not a manifest"):
        decode_manifest(data)


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        "./a",
        "a\\b",
        "a\0b",
        "a\nb",
        "\x1b[2J",
        "a" * 256,
        "a/" * 600 + "b",
    ],
)
def test_only_plain_paths_are_taken(path: str) -> None:
    """A path from a package can neither leave its folder, nor confuse a terminal, nor be too long for a file system."""
    with pytest.raises(PackageError, match="path"):
        check_paths([path])


def test_paths_that_meet_are_refused() -> None:
    """Two names that are one file on some systems would overwrite each other there."""
    check_paths(["a/Model.onnx", "b/model.onnx", "Größe.bin"])
    with pytest.raises(PackageError, match=r"'a/Model.onnx' and 'a/model.ONNX'"):
        check_paths(["a/Model.onnx", "a/model.ONNX"])


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:../../etc", "md5:" + "0" * 64, "sha256:" + "A" * 64, "sha256:" + "0" * 64 + "\n"]
)
def test_a_digest_is_never_a_path(digest: str) -> None:
    """Only 64 hex digits get as far as the file system."""
    with pytest.raises(PackageError, match="64 hex digits"):
        check_digest(digest)
