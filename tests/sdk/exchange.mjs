// What two devices say to each other once there is a channel between them.

import assert from "node:assert/strict";

const MESSAGES = 5;

/** Messages in turns between two ends; how many there were. */
export async function exchange(one, other, send, receive) {
    for (let number = 0; number < MESSAGES; number++) {
        for (const [from, to] of [
            [one, other],
            [other, one],
        ]) {
            const message = { type: "m.login.test", number, text: "é".repeat(number * 100) };
            const [received] = await Promise.all([receive(to), send(from, message)]);
            assert.deepEqual(received, message);
        }
    }
    return 2 * MESSAGES;
}
