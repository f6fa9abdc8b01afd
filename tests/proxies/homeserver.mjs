// Stands in for the homeserver behind the proxies: node homeserver.mjs PORT
// [silent]. It numbers its answers, so that a test sees what came here and what
// a cache said. If it is silent, it does not advertise QR sign-in.
import { createServer } from "node:http";

const [port, silent] = process.argv.slice(2);
const features = { "org.matrix.e2e_cross_signing": true, ...(!silent && { "org.matrix.msc4108": true }) };
const answers = {
    "/_matrix/client/versions": () => [200, { versions: ["v1.15"], unstable_features: features }],
    "/_matrix/client/v3/account/whoami": (request) =>
        request.headers.authorization === "Bearer of a user"
            ? [200, { user_id: "@user:example.org" }]
            : [401, { errcode: "M_UNKNOWN_TOKEN", error: "Who are you?" }],
};

let number = 0;
createServer((request, response) => {
    const path = request.url.split("?")[0];
    const answer = answers[path] ?? (() => [404, { errcode: "M_UNRECOGNIZED", error: request.url }]);
    const [status, body] = answer(request);
    response.writeHead(status, {
        "Content-Type": "application/json",
        "Access-Control-Allow-Origin": "*",
        "X-Answer": ++number,
    });
    response.end(JSON.stringify(body));
}).listen(Number(port), "127.0.0.1");
