"""A homeserver with QR sign-in: real Synapse, a stand-in for its authentication
service, and nginx in front where the route to rendezvousd wants it.

All of it speaks plain HTTP on 127.0.0.1, where both SDKs allow that; TLS in front
of rendezvousd is the matter of tests/proxies."""

import asyncio
import json
import os
import random
import re
import socket
import sys
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "matrix.example.org"
SECRET = "known-to-both"
MSC4108 = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"
ROUTES = {
    "redirect": "an absolute 307",
    "relative": "a relative 307 behind nginx",
    "route": "a route in nginx",
    "compressing": "a route in an nginx that compresses",
}


def free_port():
    """A port that the kernel gives to nobody who connects."""
    while True:
        port = random.randint(20000, 31999)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def nginx_site(route, port, rendezvousd, homeserver, work):
    """The README's configuration of nginx, as tests/proxies has it, with our ports."""
    text = (HERE.parent / "proxies/good/nginx.conf").read_text()
    changes = [
        (r"listen 443 ssl http2;", f"listen 127.0.0.1:{port};"),
        (r"\n *ssl_[^\n]*", ""),
        (r"127\.0\.0\.1:8090", rendezvousd.removeprefix("http://")),
        (r"127\.0\.0\.1:8008", homeserver.removeprefix("http://")),
        (r"/var/cache/nginx", str(work)),
    ]
    if route == "relative":
        changes.append((r"\(3886\|4108\)", "3886"))
    if route == "compressing":
        changes.append((r"gzip off;", ""))
    for pattern, replacement in changes:
        text, count = re.subn(pattern, lambda _: replacement, text)
        assert count, f"the README's nginx has no {pattern}"
    return text


class Homeserver:
    """Starts and stops a homeserver with one route to a rendezvous."""

    def __init__(self, route, rendezvous, work):
        """`rendezvous` is the URL of one, or None for the homeserver's own."""
        self.route, self.rendezvous, self.work = route, rendezvous, work
        self.processes = []
        self.shown = []  # the sessions in the codes of a case
        self.synapse = f"http://127.0.0.1:{free_port()}"
        self.mas = f"http://127.0.0.1:{free_port()}"
        self.base = self.synapse  # what clients use
        self.sessions = f"{rendezvous}/rendezvous/"
        if rendezvous is None:
            self.sessions = f"{self.synapse}/_synapse/client/rendezvous/"
        elif route != "redirect":
            self.base = f"http://127.0.0.1:{free_port()}"
            self.sessions = f"{self.base}{'/rendezvous' if route == 'relative' else MSC4108}/"

    async def __aenter__(self):
        self.work.mkdir(parents=True)
        for directory in (self.work, *self.work.parents[:1]):
            directory.chmod(0o755)  # nginx's workers are nobody
        try:
            await self.start_mas()
            await self.start_synapse()
            if self.base != self.synapse:
                await self.start_nginx()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        for process in reversed(self.processes):
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def start_mas(self):
        port = self.mas.rsplit(":", 1)[1]
        script = str(HERE / "mas.py")
        await self.spawn("mas", sys.executable, script, port, self.synapse, SECRET)
        await self.ready("mas", f"{self.mas}/.well-known/openid-configuration")

    async def start_synapse(self):
        python = os.environ["SYNAPSE_PYTHON"]
        module = [python, "-m", "synapse.app.homeserver"]
        generated = ["--generate-config", "--config-path", "generated.yaml", "--server-name", NAME]
        await (await self.spawn("generate", *module, *generated, "--report-stats", "no")).wait()
        # JSON is YAML.
        (self.work / "site.yaml").write_text(json.dumps(self.configuration()))
        await self.spawn("synapse", *module, "-c", "generated.yaml", "-c", "site.yaml")
        await self.ready("synapse", f"{self.synapse}/health")
        await self.ready("synapse", f"{self.synapse}/_matrix/client/v1/auth_metadata")

    def configuration(self):
        target = "/rendezvous" if self.base != self.synapse else f"{self.rendezvous}/rendezvous"
        own = {"msc4108_enabled": True}
        listener = {
            "port": int(self.synapse.rsplit(":", 1)[1]), "bind_addresses": ["127.0.0.1"],
            "type": "http", "x_forwarded": True, "resources": [{"names": ["client"]}],
        }  # fmt: skip
        return {
            "public_baseurl": f"{self.base}/",
            "listeners": [listener],
            "trusted_key_servers": [],
            "enable_registration": False,
            "password_config": {"enabled": False},
            "matrix_authentication_service": {"enabled": True, "endpoint": f"{self.mas}/", "secret": SECRET},
            "experimental_features": {"msc4108_delegation_endpoint": target} if self.rendezvous else own,
        }

    async def start_nginx(self):
        port = self.base.rsplit(":", 1)[1]
        (self.work / "site.conf").write_text(
            nginx_site(self.route, port, self.rendezvous, self.synapse, self.work)
        )
        user = "user nobody nogroup;" if os.geteuid() == 0 else ""
        paths = "".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.work / "main.conf").write_text(
            f"{user} worker_processes 2; daemon off; pid nginx.pid; events {{ worker_connections 1024; }}\n"
            f"http {{ access_log off; {paths} include site.conf; }}\n"
        )
        await self.spawn("nginx", "nginx", "-p", str(self.work), "-c", "main.conf", "-e", "stderr")
        await self.ready("nginx", f"{self.base}/_matrix/client/versions")

    async def spawn(self, name, *command):
        log = open(self.work / f"{name}.log", "wb")
        process = await asyncio.create_subprocess_exec(*command, cwd=self.work, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    async def ready(self, name, url):
        process = self.processes[-1]
        for _ in range(600):
            try:
                await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())
                return
            except OSError:
                if process.returncode is not None:
                    break
                await asyncio.sleep(0.1)
        raise RuntimeError(f"{name} does not start: {(self.work / f'{name}.log').read_text()[-3000:]}")
