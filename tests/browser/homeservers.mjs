// Stand-ins for homeservers, which say what QR sign-in asks them.

import { createServer } from "node:http";

const unstable = "/_matrix/client/unstable";
const device_code = "urn:ietf:params:oauth:grant-type:device_code";

const answers = {
    homeserver: {
        "GET /_matrix/client/versions": { versions: ["v1.15"], unstable_features: { "org.matrix.msc4108": true } },
        "GET /_matrix/client/v1/auth_metadata": { grant_types_supported: ["refresh_token", device_code] },
    },
    silent: {
        "GET /_matrix/client/versions": { versions: ["v1.15"], unstable_features: {} },
        "GET /_matrix/client/v1/auth_metadata": { grant_types_supported: ["refresh_token"] },
    },
};
answers.redirecting = answers.homeserver;

const shared = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization",
};

/** What one of a kind answers. */
export function respond(kind, request, response) {
    const asked = `${request.method} ${request.url}`;
    if (kind === "redirecting" && asked === `POST ${unstable}/org.matrix.msc4108/rendezvous`)
        return response.writeHead(307, { ...shared, Location: "/rendezvous" }).end();
    if (request.method === "OPTIONS") return response.writeHead(200, shared).end();
    const body = answers[kind][asked];
    response.writeHead(body ? 200 : 404, { ...shared, "Content-Type": "application/json" });
    response.end(JSON.stringify(body ?? { errcode: "M_UNRECOGNIZED", error: asked }));
}

/** Starts one of a kind on a port. */
export function start(kind, port) {
    return createServer((request, response) => respond(kind, request, response)).listen(port, "127.0.0.1");
}
