// Held polls behind every proxy; one line a check.
//
//   node held.mjs DIRECTORY RENDEZVOUSD PORT NAME:VARIANT:PORT...
//
// Starts rendezvousd on PORT, where the proxies look for it. DIRECTORY is
// theirs, with the certificates.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect as connectHttp2, constants } from "node:http2";
import { connect as connectTcp } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";

import { proxiesOf, conclude, line, metric } from "./checks.mjs";
import { host } from "./client.mjs";

const message = "news ".padEnd(300, "payload ");
const plain = { "content-type": "text/plain" };

/** How long a poll waits whose client goes away, in seconds. */
const wait = 3;

/** How a client goes away while its poll is held. */
const partings = {
    "HTTP/2 stream cancelled": leaveStream,
    "HTTP/2 connection closed": leaveHttp2,
    "HTTP/1.1 connection closed": (...poll) => leaveHttp1(...poll, (tls) => tls.end(() => tls.destroy())),
    "HTTP/1.1 connection reset": (...poll) => leaveHttp1(...poll, (_, tcp) => tcp.resetAndDestroy()),
};

/**
 * Whether a proxy keeps its connections to us, and the partings that it does not
 * tell us of, so that the poll is held for all of its time. Apache looks at its
 * client only when it has our answer; HAProxy does not, unless it has
 * `option abortonclose`.
 */
const all = Object.keys(partings);
const behaviours = {
    "nginx good": { keeps: false, untold: [] },
    "nginx swapped": { keeps: true, untold: [] },
    "caddy good": { keeps: true, untold: [] },
    "caddy swapped": { keeps: false, untold: [] },
    "apache good": { keeps: true, untold: all },
    "apache swapped": { keeps: false, untold: all },
    "haproxy good": { keeps: true, untold: all.filter((parting) => !parting.includes("stream")) },
    "haproxy swapped": { keeps: false, untold: [] },
};

const [directory, program, port, ...arguments_] = process.argv.slice(2);
const proxies = proxiesOf(arguments_).map((proxy) => ({ ...proxy, ...behaviours[proxy.title] }));

/** Runs a check behind one proxy after the other, so that counts are its own. */
async function check(what, run) {
    for (const proxy of proxies) await line(proxy, what, run);
}

/// The server

const server = spawn(
    program,
    ["--listen", `127.0.0.1:${port}`, "--trusted-proxy", "127.0.0.1", "--log-level", "warn"].concat(
        ["--long-poll", "25s", "--admin", `unix:${directory}/admin`],
    ),
    { stdio: ["ignore", "ignore", "inherit"] },
);
process.on("exit", () => server.kill("SIGKILL"));
process.on("SIGTERM", () => process.exit(1));
setTimeout(() => {
    console.log("FAILED to end within 250 s");
    process.exit(1);
}, 250_000).unref();

const counted = (series) => metric(directory, series);
const ended = (reason) => counted(`rendezvousd_held_polls_total{reason="${reason}"}`);
const accepted = () => counted("rendezvousd_connections_accepted_total");

/** Waits until so many polls are held. */
async function untilHeld(count) {
    let now;
    for (let tries = 0; tries < 1000; tries++) {
        now = await counted('rendezvousd_connections{state="held"}').catch(() => undefined);
        if (now === count) return;
        await sleep(10);
    }
    throw new Error(`${now} polls are held, not ${count}`);
}

/** Runs something during which held polls end for one reason. */
async function during(reasons, run) {
    const counts = () => Promise.all(["changed", "timeout", "gone", "released"].map(ended));
    const before = await counts();
    const result = await run();
    await untilHeld(0);
    const after = await counts();
    assert.deepEqual(after.map((count, at) => count - before[at]), reasons);
    return result;
}

/// Devices

/** A session of a device, and a poll of another that knows it. */
async function open(phone) {
    const made = (await phone.ask("POST", "/rendezvous", { ...plain, body: "opening" })).is(201);
    const { etag } = (await phone.ask("GET", made.json.url)).is(200).headers;
    return { url: made.json.url, etag };
}

const poll = (device, { url, etag }, fields = {}) => device.ask("GET", url, { "if-none-match": etag, ...fields });

/** What a poll over HTTP/2 has, whose client goes away when it is held. */
function http2(device, { url, etag }) {
    const tls = () => connectTls({ ...device.tls, ALPNProtocols: ["h2"] });
    const session = connectHttp2(device.origin, { createConnection: tls });
    const path = new URL(url).pathname;
    const stream = session.request({ ":path": path, "if-none-match": etag, prefer: `wait=${wait}` });
    for (const emitter of [session, stream]) emitter.on("error", () => {});
    return { session, stream };
}

async function leaveStream(device, session) {
    const { session: connection, stream } = http2(device, session);
    await untilHeld(1);
    stream.close(constants.NGHTTP2_CANCEL);
    return () => connection.destroy();
}

async function leaveHttp2(device, session) {
    const { session: connection } = http2(device, session);
    await untilHeld(1);
    connection.destroy();
}

async function leaveHttp1(device, { url, etag }, leave) {
    const tcp = connectTcp(device.tls);
    const tls = connectTls({ ...device.tls, socket: tcp });
    for (const socket of [tcp, tls]) socket.on("error", () => {});
    const { pathname, host } = new URL(url);
    tls.write(
        `GET ${pathname} HTTP/1.1\r\nHost: ${host}\r\nIf-None-Match: ${etag}\r\nPrefer: wait=${wait}\r\n\r\n`,
    );
    await untilHeld(1);
    leave(tls, tcp);
}

/// The checks

async function checkConnections() {
    await check("connections to us", async ({ device, keeps }) => {
        const phone = device(1);
        const session = await open(phone);
        const before = await accepted();
        for (let number = 0; number < 3; number++) {
            (await poll(phone, session, { prefer: "wait=0" })).is(304).isDated();
        }
        const anew = (await accepted()) - before;
        assert.equal(anew, keeps ? 0 : 3);
        return keeps ? "kept" : "a new one for each request";
    });
}

async function checkWrites() {
    await check("a write answers the poll that is held", async ({ device }) => {
        const [phone, old] = [device(1), device(2)];
        const session = await open(phone);
        return during([1, 0, 0, 0], async () => {
            const news = poll(old, session);
            await untilHeld(1);
            const put = { ...plain, "if-match": session.etag, body: message };
            const began = performance.now();
            const written = (await phone.ask("PUT", session.url, put)).is(202);
            const answer = (await news).is(200).isDated();
            const took = performance.now() - began;
            assert.equal(answer.text, message);
            assert.equal(answer.headers["content-type"], "text/plain");
            assert.equal(answer.headers.etag, written.headers.etag);
            return `${took.toFixed(1)} ms after the write began`;
        });
    });
}

async function checkTimeouts() {
    await check("without news it is 304, as late as it asked", async ({ device }) => {
        const phone = device(1);
        const session = await open(phone);
        await during([0, 1, 0, 0], async () => {
            const answer = (await poll(phone, session, { prefer: "wait=1" })).is(304).isDated();
            assert.equal(answer.headers.etag, session.etag);
            assert.deepEqual(answer.values("preference-applied"), ["wait=1"]);
        });
    });
}

async function checkPartings() {
    const findings = new Map(proxies.map(({ title }) => [title, []]));
    for (const [parting, leave] of Object.entries(partings)) {
        await check(parting, async ({ title, device, untold }) => {
            const phone = device(1);
            const session = await open(phone);
            const told = !untold.includes(parting);
            return during(told ? [0, 0, 1, 0] : [0, 1, 0, 0], async () => {
                const finish = await leave(phone, session);
                const began = performance.now();
                await untilHeld(0);
                finish?.();
                const took = performance.now() - began;
                findings.get(title).push(told ? `${took.toFixed()} ms` : "not told");
                return told ? `let go after ${took.toFixed()} ms` : "not told, held for all of its time";
            });
        });
    }
    const row = (title, cells) => console.log(`${title.padEnd(16)} ${cells.map((cell) => cell.padEnd(26)).join(" ")}`);
    row("let go after", all);
    findings.forEach((cells, title) => row(title, cells));
}

/** The longest that polls may be held, behind all at the same time. */
async function checkLongest() {
    await during([0, proxies.length, 0, 0], async () => {
        const longest = async ({ device }) => {
            const phone = device(3);
            const session = await open(phone);
            (await poll(phone, session)).is(304).isDated();
        };
        await Promise.all(proxies.map((proxy) => line(proxy, "25 s without news are 304", longest)));
    });
}

await untilHeld(0);
await checkConnections();
await checkWrites();
await checkTimeouts();
await checkPartings();
await checkLongest();
server.kill("SIGTERM");
assert.deepEqual(await once(server, "exit"), [0, null]);
conclude("checks of held polls");
