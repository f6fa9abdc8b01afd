// Two devices meet over rendezvousd, beginning at a homeserver whose address is
// all they know: as programs, and as pages in a browser.
//
//   node meet.mjs HOMESERVER LOCATION RENDEZVOUS
//
// LOCATION is what the homeserver's redirect says, or "none" where a proxy sends
// the path to rendezvousd and no homeserver is asked. RENDEZVOUS is what the
// address of a session begins with.

import assert from "node:assert/strict";

import { pageOf } from "./page.mjs";

const [homeserver, location, rendezvous] = process.argv.slice(2);
const MSC4108 = `${homeserver}/_matrix/client/unstable/org.matrix.msc4108/rendezvous`;
const MSC4388 = `${homeserver}/_matrix/client/unstable/io.element.msc4388/rendezvous`;
const TEXT = { "Content-Type": "text/plain" };
const JSON_TYPE = { "Content-Type": "application/json" };
const page = pageOf("https://app.example.org");

async function advertised() {
    const answer = await fetch(`${homeserver}/_matrix/client/versions`);
    assert.equal(answer.status, 200, await answer.clone().text());
    const { unstable_features: features } = await answer.json();
    assert.equal(features["org.matrix.msc4108"], true);
}

/** The redirect itself, and what it leads to if a page has to ask at each step. */
async function redirects() {
    const request = { method: "POST", headers: TEXT, body: "hello", redirect: "manual" };
    const answer = await fetch(MSC4108, request);
    await answer.arrayBuffer();
    assert.equal(answer.status, 307);
    assert.equal(answer.headers.get("location"), location);
    assert.equal(answer.headers.get("access-control-allow-origin"), "*");

    // MSC3886's type for a payload; it is one that needs a preflight.
    const created = await page(MSC4108, { method: "POST", headers: JSON_TYPE, body: '{"a":1}' });
    assert.equal(created.status, 201);
    const read = await page((await created.json()).url);
    assert.equal(read.headers.get("content-type"), "application/json");
    assert.equal(await read.text(), '{"a":1}');
}

/** The whole of MSC4108, each tag given back as it was received. */
async function msc4108(fetch) {
    const created = await fetch(MSC4108, { method: "POST", headers: TEXT, body: "from the new device" });
    assert.equal(created.status, 201);
    assert.ok(Date.parse(created.headers.get("expires")) > Date.now());
    const { url } = await created.json();
    assert.ok(url.startsWith(`${rendezvous}/`), `${url} begins otherwise than ${rendezvous}`);

    // Method, body and type of the creation have got through.
    const read = await fetch(url);
    assert.equal(read.status, 200);
    assert.equal(read.headers.get("content-type"), "text/plain");
    assert.equal(await read.text(), "from the new device");

    const write = (tag, body) => fetch(url, { method: "PUT", headers: { ...TEXT, "If-Match": tag }, body });
    const written = await write(read.headers.get("etag"), "from the old device");
    assert.equal(written.status, 202);
    const late = await write(read.headers.get("etag"), "too late");
    assert.equal(late.status, 412);
    assert.equal((await late.json())["org.matrix.msc4108.errcode"], "M_CONCURRENT_WRITE");

    const poll = (tag) => fetch(url, { headers: { "If-None-Match": tag } });
    const news = await poll(created.headers.get("etag"));
    assert.equal(news.status, 200);
    assert.equal(await news.text(), "from the old device");
    assert.equal(news.headers.get("etag"), written.headers.get("etag"));
    assert.equal((await poll(news.headers.get("etag"))).status, 304);

    assert.equal((await fetch(url, { method: "DELETE" })).status, 204);
    const gone = await fetch(url);
    assert.equal(gone.status, 404);
    assert.equal((await gone.json()).errcode, "M_NOT_FOUND");
}

/** The whole of MSC4388, whose paths a proxy has to route. */
async function msc4388(fetch) {
    // An access token that a server may want; this one does not.
    const authorization = { Authorization: "Bearer none" };
    const found = await fetch(MSC4388, { headers: authorization });
    assert.equal(found.status, 200);
    assert.deepEqual(await found.json(), { create_available: true });

    const send = (method, url, body) =>
        fetch(url, { method, headers: { ...JSON_TYPE, ...authorization }, body: JSON.stringify(body) });
    const created = await send("POST", MSC4388, { data: "from the new device" });
    assert.equal(created.status, 200);
    const { id, sequence_token: first } = await created.json();
    const url = `${MSC4388}/${id}`;
    const read = await (await fetch(url)).json();
    assert.deepEqual([read.data, read.sequence_token], ["from the new device", first]);

    const written = await send("PUT", `${url}/one`, { sequence_token: first, data: "from the old device" });
    assert.equal(written.status, 200);
    const { sequence_token: second } = await written.json();
    const late = await send("PUT", `${url}/two`, { sequence_token: first, data: "too late" });
    assert.equal(late.status, 409);
    const news = await (await fetch(url)).json();
    assert.deepEqual([news.data, news.sequence_token], ["from the old device", second]);

    assert.equal((await fetch(url, { method: "DELETE" })).status, 200);
    assert.equal((await fetch(url)).status, 404);
}

/** The homeserver itself knows nothing of MSC4388 and has no way to redirect it. */
async function noMsc4388() {
    const answer = await fetch(MSC4388);
    assert.equal(answer.status, 404);
    assert.equal((await answer.json()).errcode, "M_UNRECOGNIZED");
}

await advertised();
if (location !== "none") await redirects();
const routed = new URL(rendezvous).origin === homeserver;
for (const client of [fetch, page, pageOf("null")]) {
    await msc4108(client);
    await (routed ? msc4388(client) : noMsc4388());
}
const protocols = routed ? "MSC4108 and MSC4388" : "MSC4108";
console.log(`${homeserver}, redirect to ${location}: ${protocols}, by a program and by pages`);
