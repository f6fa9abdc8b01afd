// Whole meetings with nothing but fetch, as a web client has it. Bundled for
// the browser.

import assert from "node:assert/strict";

/** Two devices take turns in a session that one has created; says what was seen. */
async function meet(create, type) {
    const typed = { "Content-Type": type };
    const made = await fetch(create, { method: "POST", headers: typed, body: "opening" });
    assert.equal(made.status, 201);
    for (const name of ["etag", "expires", "last-modified", "location", "x-max-bytes"])
        assert.ok(made.headers.get(name), `${name} is hidden`);
    const url = type === "text/plain" ? (await made.json()).url : new URL(made.headers.get("location"), made.url).href;

    // Whose write it was, each sees the other's next.
    const seen = { shower: made.headers.get("etag"), scanner: undefined };
    const poll = async (who, preference) => {
        const headers = { ...preference, ...(seen[who] && { "If-None-Match": seen[who] }) };
        const answer = await fetch(url, { headers });
        if (answer.status === 304) return undefined;
        assert.equal(answer.status, 200);
        assert.equal(answer.headers.get("content-type"), type);
        seen[who] = answer.headers.get("etag");
        return answer.text();
    };
    const atOnce = (who) => poll(who, { Prefer: "wait=0" });
    // As long as it takes: where polls are not held it asks again.
    const hear = async (who) => (await poll(who)) ?? hear(who);
    const write = async (who, body, tag = seen[who]) => {
        const headers = { ...typed, "If-Match": tag };
        const answer = await fetch(url, { method: "PUT", headers, body });
        if (answer.ok) seen[who] = answer.headers.get("etag");
        return answer.status;
    };
    assert.equal(await poll("scanner"), "opening");
    assert.equal(await atOnce("scanner"), undefined);
    for (let turn = 0; turn < 4; turn++) {
        const [from, to] = turn % 2 ? ["shower", "scanner"] : ["scanner", "shower"];
        const message = `turn ${turn} é `.repeat(100);
        const old = seen[to];
        const news = hear(to);
        assert.equal(await write(from, message), 202);
        assert.equal(await news, message);
        assert.equal(await write(to, "too late", old), 412);
        assert.equal(await atOnce(to), undefined);
    }
    assert.equal((await fetch(url, { method: "DELETE" })).status, 204);
    const gone = await fetch(url);
    assert.equal(gone.status, 404);
    assert.equal((await gone.json()).errcode, "M_NOT_FOUND");
    return made.redirected ? "redirected" : "direct";
}

/** MSC4108 by the homeserver's path, and MSC3886 at the prefix. */
export async function run({ server }) {
    const msc4108 = await meet(`${server}/_matrix/client/unstable/org.matrix.msc4108/rendezvous`, "text/plain");
    await meet(`${server}/rendezvous`, "application/json");
    return `MSC4108 ${msc4108}, MSC3886`;
}
