import { Buffer } from "buffer";

import { Login, Reciprocate, meet, prepare } from "../sdk/msc3886/meeting.mjs";

// Web clients of its time had it from their bundlers, and this SDK relies on it.
globalThis.Buffer = Buffer;

/** Both intents, at both paths. */
export async function run({ server }) {
    await prepare();
    const meetings = [
        meet("login at the Matrix path", Login, server, true),
        meet("reciprocate at the prefix", Reciprocate, server, false),
    ];
    return (await Promise.all(meetings)).join("; ");
}
