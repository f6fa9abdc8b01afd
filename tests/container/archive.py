"""Checks an OCI archive: its index, and the configuration and files of each image.

    archive.py FILE SECONDS VERSION PLATFORM=DIRECTORY...

The images must be of these platforms, in this order, with the binaries of these
directories.
"""

import gzip
import hashlib
import io
import json
import sys
import tarfile

FILES = {"rendezvousd": 0o755, "LICENSE": 0o644, "THIRD-PARTY": 0o644, "state": 0o755}
USER = 65532
# 900 kB for the binary, as in tests/cross/run, and 300 kB for the notices.
SIZE_LIMIT = 1_200_000

file, seconds, version, *images = sys.argv[1:]
archive = tarfile.open(file)
members = {member.name.removeprefix("./"): member for member in archive}
assert all(member.mtime == int(seconds) for member in members.values())


def blob(descriptor):
    algorithm, digest = descriptor["digest"].split(":")
    content = archive.extractfile(members[f"blobs/{algorithm}/{digest}"]).read()
    assert hashlib.new(algorithm, content).hexdigest() == digest
    assert len(content) == descriptor["size"]
    return content


def check_configuration(configuration, platform):
    known = {name: configuration[name] for name in ("os", "architecture", "variant") if name in configuration}
    assert known == platform, known
    config = configuration["config"]
    assert config["User"] == f"{USER}:{USER}", config
    assert config["Entrypoint"][0] == "/rendezvousd" and "Cmd" not in config, config
    assert config["Volumes"] == {"/state": {}} and config["ExposedPorts"] == {"8090/tcp": {}}, config
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels.keys() == {"title", "description", "licenses", "version"}, labels
    assert labels["version"] == version, labels


def check_files(layer, directory):
    size = 0
    files = tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer)))
    assert {member.name: member.mode & 0o7777 for member in files} == FILES, files.getnames()
    for member in files:
        assert member.mtime == int(seconds)
        assert member.uid == member.gid == (USER if member.name == "state" else 0), member
        if member.isfile():
            size += member.size
            with open(f"{directory}/{member.name}", "rb") as original:
                assert files.extractfile(member).read() == original.read(), member
    assert size < SIZE_LIMIT, size
    return size


[entry] = json.load(archive.extractfile(members["index.json"]))["manifests"]
assert entry["annotations"]["org.opencontainers.image.ref.name"] == f"rendezvousd:{version}"
index = json.loads(blob(entry))
assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
for descriptor, image in zip(index["manifests"], images, strict=True):
    name, directory = image.split("=")
    platform = dict(zip(("os", "architecture", "variant"), name.split("/")))
    assert descriptor["platform"] == platform, descriptor
    manifest = json.loads(blob(descriptor))
    check_configuration(json.loads(blob(manifest["config"])), platform)
    [layer] = manifest["layers"]
    print(f"{name}: {check_files(blob(layer), directory)} bytes")
