// Two devices of the last matrix-js-sdk that spoke MSC3886 build MSC3903's
// channel over rendezvousd and exchange messages.
//
//   node meet.mjs http://127.0.0.1:8090

import assert from "node:assert/strict";

import Olm from "@matrix-org/olm";
import { logger } from "matrix-js-sdk/lib/logger.js";
import {
    LegacyRendezvousFailureReason,
    RendezvousIntent,
} from "matrix-js-sdk/lib/rendezvous/index.js";
import { MSC3903ECDHv2RendezvousChannel } from "matrix-js-sdk/lib/rendezvous/channels/index.js";
import { MSC3886SimpleHttpRendezvousTransport } from "matrix-js-sdk/lib/rendezvous/transports/index.js";

const MESSAGES = 5;
const server = process.argv[2];

// A homeserver that advertises MSC3886, at the Matrix path, or not.
const client = (supported) => ({
    baseUrl: server,
    doesServerSupportUnstableFeature: async () => supported,
});

async function meet(name, intent, supported) {
    const failures = [];
    const onFailure = (reason) => failures.push(reason);
    const transport = () =>
        new MSC3886SimpleHttpRendezvousTransport({
            client: client(supported),
            fallbackRzServer: `${server}/rendezvous`,
            onFailure,
        });

    const shown = transport();
    const shower = new MSC3903ECDHv2RendezvousChannel(shown, undefined, onFailure);
    const code = await shower.generateCode(intent);

    // This SDK has no scanning side of its own: it is one that knows the URI
    // and has read what is there.
    const session = transport();
    session.uri = code.rendezvous.transport.uri;
    session._ready = true;
    await session.receive();
    const key = Buffer.from(code.rendezvous.key, "base64");
    const scanner = new MSC3903ECDHv2RendezvousChannel(session, key, onFailure);

    const checksums = await Promise.all([shower.connect(), scanner.connect()]);
    assert.equal(checksums[0], checksums[1]);

    for (let number = 0; number < MESSAGES; number++) {
        for (const [from, to] of [
            [shower, scanner],
            [scanner, shower],
        ]) {
            const message = { type: "m.login.test", number, text: "é".repeat(number * 100) };
            const [received] = await Promise.all([to.receive(), from.send(message)]);
            assert.deepEqual(received, message);
        }
    }
    assert.deepEqual(failures, []);

    await scanner.cancel(LegacyRendezvousFailureReason.UserDeclined);
    assert.equal(await shower.receive(), undefined);
    console.log(`MSC3886, ${name}: channel built, ${2 * MESSAGES} messages, cancelled`);
}

logger.setLevel?.("silent");
globalThis.Olm = Olm;
await Olm.init();
await meet(
    "login at the Matrix path",
    RendezvousIntent.LOGIN_ON_NEW_DEVICE,
    true,
);
await meet(
    "reciprocate at the prefix",
    RendezvousIntent.RECIPROCATE_LOGIN_ON_EXISTING_DEVICE,
    false,
);
