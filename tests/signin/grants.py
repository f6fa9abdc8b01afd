"""OAuth 2.0 as the Matrix Authentication Service speaks it: what it remembers
and what it refuses (RFC 6749, 7009, 7591, 7636, 7662 and 8628). Knows nothing of
HTTP, whose requests mas.py takes apart."""

import base64
import hashlib
import re
import secrets
import threading
import time

CODE = "authorization_code"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
REFRESH = "refresh_token"
# Both names of a scope are in use: that of the specification and MSC2967's.
API = ("urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*")
DEVICE_SCOPE = re.compile(r"urn:matrix:(?:org\.matrix\.msc2967\.)?client:device:([^ ]{1,255})")
# Seconds between a device's polls for its token. The service's own 5 would hide what
# the rendezvous takes, and even 1 is added or not by who is first, device or user.
INTERVAL = 0
GRANT_LIFE = 300
TOKEN_LIFE = 300


class Refused(Exception):
    """An error of the RFCs, with its status."""

    def __init__(self, error, description, status=400):
        super().__init__(f"{error}: {description}")
        self.status = status
        self.body = {"error": error, "error_description": description}


def require(condition, error, description, status=400):
    if not condition:
        raise Refused(error, description, status)


def device_of(scope):
    """The one device that a scope names; every client is of one device."""
    tokens = scope.split(" ")
    devices = {match[1] for token in tokens if (match := DEVICE_SCOPE.fullmatch(token))}
    known = all(token in API or DEVICE_SCOPE.fullmatch(token) for token in tokens)
    require(known and len(devices) == 1, "invalid_scope", "one device and the API, nothing else")
    require(any(token in API for token in tokens), "invalid_scope", "the scope lacks the API")
    return devices.pop()


class Grants:
    """Clients, codes and tokens. `provision(user, device)` tells the homeserver of
    a device before it gets a token."""

    def __init__(self, provision):
        self.provision = provision
        self.lock = threading.RLock()
        self.clients, self.codes, self.devices, self.access, self.refreshes = {}, {}, {}, {}, {}

    def register(self, metadata):
        """RFC 7591: a public client."""
        grants = metadata.get("grant_types", [CODE])
        uris = metadata.get("redirect_uris", [])
        invalid = "invalid_client_metadata"
        require(set(grants) <= {CODE, DEVICE, REFRESH}, invalid, f"grant types {grants}")
        require(metadata.get("token_endpoint_auth_method") == "none", invalid, "not a public client")
        require(str(metadata.get("client_uri", "")).startswith("https://"), invalid, "client_uri is not https")
        require(CODE not in grants or uris, "invalid_redirect_uri", "a code needs somewhere to go")
        require(all("#" not in uri for uri in uris), "invalid_redirect_uri", "it has a fragment")
        identity = secrets.token_urlsafe(12)
        client = {**metadata, "grant_types": grants, "redirect_uris": uris}
        self.clients[identity] = client
        return {**client, "client_id": identity, "client_id_issued_at": int(time.time())}

    def client(self, parameters, grant):
        client = self.clients.get(parameters.get("client_id"))
        require(client is not None, "invalid_client", "there is no such client", 401)
        require(grant in client["grant_types"], "unauthorized_client", f"not registered for {grant}")
        return client

    def check_authorization(self, parameters):
        """RFC 6749 4.1.1 with RFC 7636; errors about the redirect go to the user."""
        client = self.client(parameters, CODE)
        uri = parameters.get("redirect_uri")
        require(uri in client["redirect_uris"], "invalid_request", "redirect_uri is not a registered one")
        require(parameters.get("response_type") == "code", "unsupported_response_type", "only code")
        require(parameters.get("response_mode", "query") in ("query", "fragment"), "invalid_request", "response_mode")
        require(parameters.get("code_challenge_method") == "S256", "invalid_request", "PKCE is by S256")
        challenge = parameters.get("code_challenge", "")
        require(re.fullmatch(r"[\w-]{43}", challenge), "invalid_request", "no code_challenge")
        require(parameters.get("state"), "invalid_request", "no state")
        device_of(parameters.get("scope", ""))

    def authorize(self, parameters, user):
        """The user agrees; a code to come back with."""
        self.check_authorization(parameters)
        code = secrets.token_urlsafe(24)
        self.codes[code] = {**parameters, "user": user, "until": time.monotonic() + 60, "issued": None}
        return code

    def start_device(self, parameters):
        """RFC 8628 3.1."""
        self.client(parameters, DEVICE)
        scope = parameters.get("scope", "")
        device_of(scope)
        code = secrets.token_urlsafe(24)
        user_code = "".join(secrets.choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(8))
        self.devices[code] = {
            "client_id": parameters["client_id"], "scope": scope, "user_code": user_code, "user": None,
            "state": "authorization_pending", "until": time.monotonic() + GRANT_LIFE,
            "interval": INTERVAL, "polled": None,
        }  # fmt: skip
        return {"device_code": code, "user_code": user_code, "expires_in": GRANT_LIFE, "interval": INTERVAL}

    def answer_device(self, user_code, user, allow):
        """The user's answer on the page that the old device opened."""
        with self.lock:
            grant = next((g for g in self.devices.values() if g["user_code"] == user_code), None)
            require(grant is not None, "invalid_request", "there is no such code", 404)
            require(grant["state"] == "authorization_pending", "invalid_request", "it is answered already")
            grant["user"], grant["state"] = user, "allowed" if allow else "access_denied"

    def token(self, parameters):
        exchange = {CODE: self._from_code, DEVICE: self._from_device, REFRESH: self._from_refresh}
        grant = parameters.get("grant_type")
        require(grant in exchange, "unsupported_grant_type", str(grant))
        self.client(parameters, grant)
        with self.lock:
            return exchange[grant](parameters)

    def _from_code(self, parameters):
        """RFC 6749 4.1.3: once, by the client and for the URI it was made for."""
        code = self.codes.get(parameters.get("code"))
        require(code is not None, "invalid_grant", "there is no such code")
        if code["issued"]:
            self.revoke(code["issued"]["access_token"])
            raise Refused("invalid_grant", "the code was used before")
        require(time.monotonic() < code["until"], "invalid_grant", "the code has expired")
        for name in ("client_id", "redirect_uri"):
            require(parameters.get(name) == code[name], "invalid_grant", f"another {name}")
        digest = hashlib.sha256(parameters.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        require(challenge == code["code_challenge"], "invalid_grant", "code_verifier is wrong")
        code["issued"] = self._issue(code["client_id"], code["user"], code["scope"])
        return code["issued"]

    def _from_device(self, parameters):
        """RFC 8628 3.4 and 3.5."""
        grant = self.devices.get(parameters.get("device_code"))
        require(grant and grant["client_id"] == parameters["client_id"], "invalid_grant", "there is no such code")
        now, polled = time.monotonic(), grant["polled"]
        grant["polled"] = now
        require(now < grant["until"], "expired_token", "nobody answered in time")
        if polled is not None and now - polled < grant["interval"]:
            grant["interval"] += 5
            raise Refused("slow_down", f"once in {grant['interval']} s")
        require(grant["state"] == "allowed", grant["state"], f"user code {grant['user_code']}")
        del self.devices[parameters["device_code"]]
        return self._issue(grant["client_id"], grant["user"], grant["scope"])

    def _from_refresh(self, parameters):
        """RFC 6749 6, with tokens that are used once."""
        grant = self.refreshes.get(parameters.get("refresh_token"))
        require(grant and grant["client_id"] == parameters["client_id"], "invalid_grant", "there is no such token")
        self.revoke(parameters["refresh_token"])
        return self._issue(grant["client_id"], grant["user"], grant["scope"])

    def _issue(self, client_id, user, scope):
        self.provision(user, device_of(scope))
        grant = {"client_id": client_id, "user": user, "scope": scope, "until": time.time() + TOKEN_LIFE}
        access, refresh = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self.access[access] = {**grant, "refresh": refresh}
        self.refreshes[refresh] = {**grant, "access": access}
        return {
            "access_token": access, "refresh_token": refresh, "token_type": "Bearer",
            "expires_in": TOKEN_LIFE, "scope": scope,
        }  # fmt: skip

    def revoke(self, token):
        """RFC 7009: both tokens of a pair; one that is not known is no error."""
        with self.lock:
            if token in self.refreshes:
                token = self.refreshes[token]["access"]
            if pair := self.access.pop(token, None):
                self.refreshes.pop(pair["refresh"], None)

    def introspect(self, token):
        """RFC 7662, as Synapse wants it."""
        grant = self.access.get(token)
        if grant is None or grant["until"] <= time.time():
            return {"active": False}
        return {
            "active": True, "scope": grant["scope"], "client_id": grant["client_id"], "token_type": "Bearer",
            "sub": f"01{grant['user'].upper()}", "username": grant["user"],
            "expires_in": int(grant["until"] - time.time()) + 1,
        }  # fmt: skip
