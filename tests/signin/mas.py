"""A stand-in for the Matrix Authentication Service on 127.0.0.1.

    mas.py PORT HOMESERVER SECRET

Everything else of a sign-in is real. Errors go to standard error, a line each."""

import html
import json
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

from grants import CODE, DEVICE, REFRESH, Grants, Refused, require

FORM = "application/x-www-form-urlencoded"


def metadata(base):
    """RFC 8414, with what the Matrix specification wants."""
    return {
        "issuer": f"{base}/",
        "authorization_endpoint": f"{base}/authorize",
        "token_endpoint": f"{base}/oauth2/token",
        "jwks_uri": f"{base}/oauth2/keys.json",
        "registration_endpoint": f"{base}/oauth2/registration",
        "revocation_endpoint": f"{base}/oauth2/revoke",
        "introspection_endpoint": f"{base}/oauth2/introspect",
        "device_authorization_endpoint": f"{base}/oauth2/device",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment"],
        "grant_types_supported": [CODE, REFRESH, DEVICE],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "account_management_uri": f"{base}/account/",
    }


def parameters(text):
    """RFC 6749 3.2: none may be there twice; one without a value is not there."""
    pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    names = [name for name, _ in pairs]
    require(len(names) == len(set(names)), "invalid_request", "a parameter is there twice")
    return {name: value for name, value in pairs if value}


def page(title, fields, buttons):
    """A form like the service's own, for a person: here the test's driver."""
    inputs = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in fields.items()
    )
    inputs += '<label>Who are you? <input name="username"></label>'
    inputs += "".join(f'<button name="answer" value="{answer}">{answer}</button>' for answer in buttons)
    return f"<!doctype html><title>{title}</title><form method=post>{inputs}</form>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answered(self.get)

    def do_POST(self):
        self.answered(self.post)

    def answered(self, respond):
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            respond(urlsplit(self.path), body)
        except Refused as refused:
            print(f"{self.command} {self.path.split('?')[0]}: {refused}", file=sys.stderr, flush=True)
            self.json(refused.body, refused.status)

    def get(self, url, _):
        server = self.server
        if url.path in ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"):
            return self.json(metadata(server.base))
        if url.path == "/oauth2/keys.json":
            return self.json({"keys": []})
        query = parameters(url.query)
        if url.path == "/authorize":
            server.grants.check_authorization(query)
            return self.send(200, "text/html", page("Sign in", query, ["allow"]))
        require(url.path == "/link", "invalid_request", "there is nothing here", 404)
        return self.send(200, "text/html", page("Link a device", query, ["allow", "deny"]))

    def post(self, url, body):
        grants = self.server.grants
        if url.path == "/oauth2/registration":
            self.typed("application/json")
            return self.json(grants.register(json.loads(body)), 201)
        self.typed(FORM)
        form = parameters(body)
        if url.path == "/authorize":
            return self.redirect(form)
        if url.path == "/link":
            grants.answer_device(form.get("code"), form.get("username"), form.get("answer") == "allow")
            return self.send(200, "text/html", "<!doctype html><title>Done</title>")
        if url.path == "/oauth2/token":
            return self.json(grants.token(form))
        if url.path == "/oauth2/device":
            return self.json(self.device(form))
        if url.path == "/oauth2/introspect":
            secret = f"Bearer {self.server.secret}"
            require(self.headers.get("Authorization") == secret, "invalid_client", "wrong secret", 401)
            return self.json(grants.introspect(form.get("token")))
        require(url.path == "/oauth2/revoke", "invalid_request", "there is nothing here", 404)
        grants.revoke(form.get("token"))
        return self.json({})

    def device(self, form):
        answer = self.server.grants.start_device(form)
        link = f"{self.server.base}/link"
        return {**answer, "verification_uri": link, "verification_uri_complete": f"{link}?code={answer['user_code']}"}

    def redirect(self, form):
        user = form.pop("username", None)
        require(user, "access_denied", "nobody signed in")
        form.pop("answer", None)
        back = urlencode({"code": self.server.grants.authorize(form, user), "state": form["state"]})
        mark = "#" if form.get("response_mode") == "fragment" else "?"
        self.send(303, "text/html", "", Location=f"{form['redirect_uri']}{mark}{back}")

    def typed(self, wanted):
        found = self.headers.get("Content-Type", "").split(";")[0].strip().lower()
        require(found == wanted, "invalid_request", f"Content-Type is {found}, not {wanted}")

    def json(self, value, status=200):
        self.send(status, "application/json", json.dumps(value), **{"Cache-Control": "no-store", "Pragma": "no-cache"})

    def send(self, status, kind, text, **headers):
        body = text.encode()
        self.send_response_only(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)


def provisioner(homeserver, secret):
    """What the service tells Synapse of a user and a device before it hands out a token."""

    def tell(what, **body):
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        url = f"{homeserver}/_synapse/mas/{what}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        urllib.request.urlopen(request, timeout=30).read()

    def provision(user, device):
        tell("provision_user", localpart=user)
        tell("upsert_device", localpart=user, device_id=device)

    return provision


def main():
    port, homeserver, secret = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.base, server.secret = f"http://127.0.0.1:{port}", secret
    server.grants = Grants(provisioner(homeserver, secret))
    server.serve_forever()


if __name__ == "__main__":
    main()
