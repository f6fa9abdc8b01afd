"""Synapse with the rendezvous that is built into it, for 200 sessions.
It is installed as tests/synapse pins it, where that finds it too."""

import subprocess
import sys
from pathlib import Path

import peers


def peer(directory):
    python = installed() / "bin/python"
    generated = Path(directory) / "generated.yaml"
    peers.run(str(python), "-m", "synapse.app.homeserver", "--generate-config",
              "--config-path", str(generated), "--server-name", "matrix.example.org",
              "--report-stats", "no", cwd=directory)  # fmt: skip

    # As quiet as the others are.
    logging = Path(directory) / "matrix.example.org.log.config"
    logging.write_text(logging.read_text().replace("level: INFO", "level: WARNING"))

    def arguments(port, _):
        file = Path(directory) / f"synapse-{port}.yaml"
        database = Path(directory) / f"synapse-{port}.db"
        file.write_text(CONFIGURATION.format(port=port, database=database))
        return ["-m", "synapse.app.homeserver", "-c", str(generated), "-c", str(file)]

    return peers.Peer("synapse", "Synapse, built in", python, arguments, peers.TAGGED,
                      create=peers.MSC4108, keeps=False)  # fmt: skip


def installed():
    """The directory of the environment."""
    pinned = peers.ROOT / "tests/synapse/requirements.txt"
    environment = peers.TARGET / "synapse"
    stamp = environment / "installed"
    if not stamp.exists() or stamp.read_text() != pinned.read_text():
        print("installing Synapse, which takes a minute", flush=True)
        peers.install({"python3": "python3"})
        if subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True).returncode:
            peers.run("apt-get", "install", "-y", "-qq", "python3-venv")
        peers.run(sys.executable, "-m", "venv", "--clear", str(environment))
        peers.run(str(environment / "bin/pip"), "install", "--quiet", "--disable-pip-version-check",
                  "--only-binary", ":all:", "-r", str(pinned))  # fmt: skip
        stamp.write_text(pinned.read_text())
    return environment


CONFIGURATION = """
listeners:
  - {{port: {port}, bind_addresses: [127.0.0.1], type: http, resources: [{{names: [client]}}]}}
database: {{name: sqlite3, args: {{database: "{database}"}}}}
public_baseurl: http://127.0.0.1:{port}/
trusted_key_servers: []
enable_registration: false
password_config: {{enabled: false}}
matrix_authentication_service: {{enabled: true, secret: anything}}
experimental_features: {{msc4108_enabled: true}}
"""
