"""nginx, which answers as we do, but constants: what a server that thinks
nothing and keeps nothing needs."""

import shutil
from pathlib import Path

import client
import peers

# What nginx writes by itself.
ITS_OWN = {"date", "content-length", "content-type", "connection"}


def nginx(directory, cores):
    """nginx with the header fields of answers that rendezvousd gives."""
    with peers.Server(peers.ours(), cores) as server:
        connection = client.Connection(server.port)
        create = server.peer.create
        post = connection.ask("POST", create, b"x" * 512, Content_Type="text/plain")
        path = client.place(create, post)
        get = connection.ask("GET", path)
        poll = connection.ask("GET", path, If_None_Match=get.field("ETag"))
        connection.close()
    # Another path, for a condition would cost nginx time.
    unchanged = "/unchanged"
    places = {create: post, path: get, path + unchanged: poll}
    locations = "".join(location(place, answer) for place, answer in places.items())

    def arguments(port, _):
        file = Path(directory) / f"nginx-{port}.conf"
        file.write_text(CONFIGURATION.format(
            directory=directory, port=port, locations=locations, workers=len(cores)))  # fmt: skip
        return ["-p", str(directory), "-c", str(file)]

    return peers.Peer(
        "nginx", "nginx, a constant", Path(shutil.which("nginx")), arguments,
        {"get", "poll", "post"}, unchanged=unchanged, keeps=False)  # fmt: skip


def location(path, answer):
    lines = [
        f"add_header {name} {quoted(value)} always;"
        for name, value in answer.fields
        if name.lower() not in ITS_OWN
    ]
    if answer.body:
        lines.append(f"default_type {quoted(answer.field('Content-Type'))};")
    body = quoted(answer.body.decode()) if answer.body else ""
    lines.append(f"return {answer.status} {body};")
    return f"location = {path} {{ {' '.join(lines)} }}\n"


def quoted(text):
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


CONFIGURATION = """
worker_processes {workers};
daemon off;
pid {directory}/nginx-{port}.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        {locations}
    }}
}}
"""
