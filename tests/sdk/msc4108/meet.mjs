// Two devices of matrix-js-sdk meet over rendezvousd, once for each intent of
// the QR code.
//
//   node meet.mjs http://127.0.0.1:8090 [HOMESERVER]
//
// Signing in ("login") creates at the Matrix path; linking a new device
// ("reciprocate") creates by way of a homeserver that redirects with 307: the
// one named, or else a stand-in.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";

import { Login, Reciprocate, meet, prepare } from "./meeting.mjs";

const PATH = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const [server, homeserver] = process.argv.slice(2);

async function redirectingHomeserver() {
    const standIn = createServer((request, response) => {
        assert.deepEqual([request.method, request.url], ["POST", PATH]);
        response.writeHead(307, { Location: `${server}/rendezvous` }).end();
    });
    standIn.listen(0, "127.0.0.1").unref();
    await once(standIn, "listening");
    return `http://127.0.0.1:${standIn.address().port}`;
}

await prepare();
const redirecting = homeserver ?? (await redirectingHomeserver());
// At once, because they mostly wait for their next poll.
const meetings = await Promise.all([
    meet("login", Login, `${server}${PATH}`),
    meet("reciprocate by a 307", Reciprocate, `${redirecting}${PATH}`),
]);
console.log(meetings.join("\n"));
