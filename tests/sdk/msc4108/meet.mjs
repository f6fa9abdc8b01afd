// Two devices of matrix-js-sdk build MSC4108's secure channel over rendezvousd
// and exchange messages, once for each intent of the QR code.
//
//   node meet.mjs http://127.0.0.1:8090 [HOMESERVER]
//
// Signing in ("login") creates at the Matrix path; linking a new device
// ("reciprocate") creates by way of a homeserver that redirects with 307: the
// one named, or else a stand-in.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";

import { QrCodeData, QrCodeIntent, initAsync } from "@matrix-org/matrix-sdk-crypto-wasm";
import { logger } from "matrix-js-sdk/lib/logger.js";
import {
    MSC4108FailureReason,
    MSC4108RendezvousSession,
    MSC4108SecureChannel,
} from "matrix-js-sdk/lib/rendezvous/index.js";

const MESSAGES = 5;
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

async function meet(name, intent, endpoint) {
    const failures = [];
    const onFailure = (reason) => failures.push(reason);

    // The device that shows the code.
    const shown = new MSC4108RendezvousSession({ fallbackRzServer: endpoint, onFailure });
    await shown.send("");
    const shower = new MSC4108SecureChannel(shown, undefined, onFailure);
    const code = await shower.generateCode(intent, "example.org");

    // The device that scans it knows what the code says and no more.
    const scanned = QrCodeData.fromBytes(code);
    assert.equal(scanned.mode, intent);
    const session = new MSC4108RendezvousSession({ url: scanned.rendezvousUrl, onFailure });
    const scanner = new MSC4108SecureChannel(session, scanned.publicKey, onFailure);

    await Promise.all([shower.connect(), scanner.connect()]);
    assert.equal(shower.getCheckCode(), scanner.getCheckCode());

    for (let number = 0; number < MESSAGES; number++) {
        for (const [from, to] of [
            [shower, scanner],
            [scanner, shower],
        ]) {
            const message = { type: "m.login.test", number, text: "é".repeat(number * 100) };
            const [received] = await Promise.all([to.secureReceive(), from.secureSend(message)]);
            assert.deepEqual(received, message);
        }
    }
    assert.deepEqual(failures, []);

    await scanner.cancel(MSC4108FailureReason.UserCancelled);
    assert.equal(await shower.secureReceive(), undefined);
    assert.ok(shower.cancelled);
    console.log(`MSC4108, ${name}: channel built, ${2 * MESSAGES} messages, cancelled`);
}

logger.setLevel?.("silent");
await initAsync();
const redirecting = homeserver ?? (await redirectingHomeserver());
// At once, because they mostly wait for their next poll.
await Promise.all([
    meet("login", QrCodeIntent.Login, `${server}${PATH}`),
    meet("reciprocate by a 307", QrCodeIntent.Reciprocate, `${redirecting}${PATH}`),
]);
