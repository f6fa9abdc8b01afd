// Two devices of matrix-js-sdk build MSC4108's secure channel over rendezvousd
// and exchange messages. Runs in node and, bundled by tests/browser, in a
// browser.

import assert from "node:assert/strict";

import { QrCodeData, QrCodeIntent, initAsync } from "@matrix-org/matrix-sdk-crypto-wasm";
import { logger } from "matrix-js-sdk/lib/logger.js";
import {
    MSC4108FailureReason,
    MSC4108RendezvousSession,
    MSC4108SecureChannel,
} from "matrix-js-sdk/lib/rendezvous/index.js";

import { exchange } from "../exchange.mjs";

/** Signing in, by the new device, and linking one, by the old. */
export const { Login, Reciprocate } = QrCodeIntent;

/** To be awaited before the first meeting. */
export async function prepare() {
    logger.setLevel?.("silent");
    await initAsync();
}

/** A meeting whose session is created at `endpoint`; says what happened. */
export async function meet(name, intent, endpoint) {
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

    const messages = await exchange(
        shower,
        scanner,
        (end, message) => end.secureSend(message),
        (end) => end.secureReceive(),
    );
    assert.deepEqual(failures, []);

    await scanner.cancel(MSC4108FailureReason.UserCancelled);
    assert.equal(await shower.secureReceive(), undefined);
    assert.ok(shower.cancelled);
    return `MSC4108, ${name}: channel built, ${messages} messages, cancelled`;
}
