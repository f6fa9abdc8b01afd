// Two devices of the last matrix-js-sdk that spoke MSC3886 build MSC3903's
// channel over rendezvousd and exchange messages. Runs in node and, bundled by
// tests/browser, in a browser.

import assert from "node:assert/strict";

import Olm from "@matrix-org/olm";
import { logger } from "matrix-js-sdk/lib/logger.js";
import {
    LegacyRendezvousFailureReason,
    RendezvousIntent,
} from "matrix-js-sdk/lib/rendezvous/index.js";
import { MSC3903ECDHv2RendezvousChannel } from "matrix-js-sdk/lib/rendezvous/channels/index.js";
import { MSC3886SimpleHttpRendezvousTransport } from "matrix-js-sdk/lib/rendezvous/transports/index.js";

import { exchange } from "../exchange.mjs";

/** Signing in, by the new device, and linking one, by the old. */
export const { LOGIN_ON_NEW_DEVICE: Login, RECIPROCATE_LOGIN_ON_EXISTING_DEVICE: Reciprocate } = RendezvousIntent;

/** To be awaited before the first meeting. */
export async function prepare() {
    logger.setLevel?.("silent");
    globalThis.Olm = Olm;
    await Olm.init();
}

// A homeserver that advertises MSC3886, at the Matrix path, or not.
const client = (server, supported) => ({
    baseUrl: server,
    doesServerSupportUnstableFeature: async () => supported,
});

/** A meeting at the Matrix path of `server`, if supported, else at its prefix. */
export async function meet(name, intent, server, supported) {
    const failures = [];
    const onFailure = (reason) => failures.push(reason);
    const transport = () =>
        new MSC3886SimpleHttpRendezvousTransport({
            client: client(server, supported),
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
    const key = Uint8Array.from(atob(code.rendezvous.key), (byte) => byte.charCodeAt(0));
    const scanner = new MSC3903ECDHv2RendezvousChannel(session, key, onFailure);

    const checksums = await Promise.all([shower.connect(), scanner.connect()]);
    assert.equal(checksums[0], checksums[1]);

    const messages = await exchange(
        shower,
        scanner,
        (end, message) => end.send(message),
        (end) => end.receive(),
    );
    assert.deepEqual(failures, []);

    await scanner.cancel(LegacyRendezvousFailureReason.UserDeclined);
    assert.equal(await shower.receive(), undefined);
    return `MSC3886, ${name}: channel built, ${messages} messages, cancelled`;
}
