// What must hold behind every proxy; one line a check.
//
//   node check.mjs DIRECTORY RENDEZVOUSD PORT NAME:VARIANT:PORT...
//
// Starts rendezvousd on PORT, where the proxies look for it, and restarts it.
// DIRECTORY is theirs, with the certificates.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:net";

import { proxiesOf, conclude, line, metric } from "./checks.mjs";
import { tagged, transactions } from "./flows.mjs";

const unstable = "/_matrix/client/unstable";
const burst = 60;
const plain = { "content-type": "text/plain", body: "x" };

/**
 * What a proxy does to reads and to a body that arrives slowly, and whether it
 * keeps a connection to us for more than a minute.
 */
const faithful = {
    tag: (tag) => tag,
    poll: 304,
    encoding: undefined,
    slow: /^HTTP\/1.1 (408|50[24]) /,
    keeps: false,
};
const behaviours = {
    // Takes the whole body before it asks us.
    "nginx good": { ...faithful, slow: /^HTTP\/1.1 201 / },
    // What it may cache it asks for without conditions.
    "nginx hostile": { ...faithful, tag: (tag) => `W/${tag}`, poll: 200, encoding: "gzip" },
    "nginx auth": { ...faithful, slow: /^HTTP\/1.1 201 / },
    "nginx extras": { ...faithful, slow: /^HTTP\/1.1 201 / },
    "caddy good": { ...faithful, keeps: true },
    "caddy extras": { ...faithful, keeps: true },
    "caddy hostile": { ...faithful, keeps: true, encoding: "gzip" },
    "apache good": faithful,
    "apache extras": faithful,
    "apache waf": faithful,
    "apache hostile": { ...faithful, tag: (tag) => tag.replace(/"$/, '-gzip"'), encoding: "gzip" },
    // It heeds `no-transform`.
    "haproxy good": faithful,
    "haproxy extras": faithful,
    "haproxy hostile": faithful,
};

const [directory, program, port, ...arguments_] = process.argv.slice(2);
const proxies = proxiesOf(arguments_).map((proxy) => {
    const token = proxy.variant === "auth" && { authorization: "Bearer of a user" };
    return { ...proxy, token, ...behaviours[proxy.title] };
});

/** Runs a check behind all proxies, or those of a variant, at the same time. */
async function check(what, run, only = () => true) {
    await Promise.all(proxies.filter(only).map((proxy) => line(proxy, what, run)));
}

/// The server

let server;
process.on("exit", () => server?.kill("SIGKILL"));
process.on("SIGTERM", () => process.exit(1));
setTimeout(() => {
    console.log("FAILED to end within 170 s");
    process.exit(1);
}, 170_000).unref();

async function start() {
    const flags = ["--listen", `127.0.0.1:${port}`, "--listen", `unix:${directory}/socket`];
    flags.push("--trusted-proxy", "127.0.0.1", "--trusted-proxy", "unix", "--log-level", "warn");
    flags.push("--create-burst", burst, "--create-rate", 1, "--long-poll", "0s");
    flags.push("--state-file", `${directory}/state`, "--admin", `unix:${directory}/admin`);
    server = spawn(program, flags, { stdio: ["ignore", "ignore", "inherit"] });
    for (let tries = 0; tries < 100; tries++) {
        const socket = connect(Number(port), "127.0.0.1");
        const up = await Promise.race([once(socket, "connect"), once(socket, "error")]).then(
            () => true,
            () => false,
        );
        socket.destroy();
        // As rendezvousd.socket has it: workers of nginx are nobody.
        if (up) return chmodSync(`${directory}/socket`, 0o666);
        await sleep(50);
    }
    throw new Error("rendezvousd does not start");
}

/** How many connections it has accepted. */
const accepted = () => metric(directory, "rendezvousd_connections_accepted_total");

async function stop() {
    const ended = once(server, "exit");
    server.kill("SIGTERM");
    assert.deepEqual(await ended, [0, null]);
}

/// The checks

/** Waits for proxies that look first whether the server is there. */
async function checkHealth() {
    await check("it is found to be up", async ({ device }) => {
        const phone = device(1);
        let status;
        for (let tries = 0; tries < 100 && status !== 404; tries++) {
            if (tries) await sleep(100);
            ({ status } = await phone.ask("GET", "/rendezvous/none"));
        }
        assert.equal(status, 404);
    }, ({ variant }) => variant === "extras");
}

async function checkExtras() {
    const known = (...titles) => ({ title }) => titles.includes(title);
    // More than 16 KiB in all, and no line longer than proxies take.
    const long = "x".repeat(5000);
    const cookies = { ...plain, "x-one": long, "x-two": long, cookie: `a=${"x".repeat(7000)}` };
    await check("with other programs' cookies the head is too large", async ({ device }) => {
        assert.equal((await device(1).ask("POST", "/rendezvous", cookies)).status, 431);
    }, known("nginx good", "caddy good", "apache good"));
    await check("cookies are dropped", async ({ device }) => {
        (await device(1).ask("POST", "/rendezvous", cookies)).is(201);
    }, known("nginx extras", "caddy extras", "apache extras"));
    await check("what the homeserver does not advertise is added", async ({ device }) => {
        const { unstable_features: features } = (await device(1).ask("GET", "/_matrix/client/versions")).json;
        assert.deepEqual(features, { "org.matrix.msc4108": true, "org.matrix.e2e_cross_signing": true });
    }, known("nginx extras", "apache extras"));
    await check("the firewall refuses elsewhere what it lets through here", async ({ device }) => {
        for (const method of ["PUT", "DELETE"]) {
            assert.equal((await device(1).ask(method, "/_matrix/client/v3/x", plain)).status, 403);
        }
        assert.equal((await device(1).ask("POST", "/_matrix/client/v3/x", plain)).status, 403);
    }, known("apache waf"));
    await check("it is not added where no proxy does", async ({ device }) => {
        const { unstable_features: features } = (await device(1).ask("GET", "/_matrix/client/versions")).json;
        assert.deepEqual(features, { "org.matrix.e2e_cross_signing": true });
    }, known("caddy extras", "haproxy extras"));
}

async function checkFlows() {
    await check("the homeserver has what is not ours", async ({ device, title }) => {
        const answers = [];
        for (let time = 0; time < 2; time++) {
            answers.push(await device(1).ask("GET", "/_matrix/client/versions"));
        }
        const counts = answers.map((answer) => answer.headers["x-answer"]);
        assert.ok(counts[0]);
        assert.equal(counts[0] === counts[1], /nginx (good|hostile)/.test(title), "cached");
        const { headers } = await device(1).ask("GET", "/_matrix/client/v1/rendezvousing");
        assert.ok(headers["x-answer"]);
    });
    for (const path of ["/rendezvous", `${unstable}/org.matrix.msc4108/rendezvous`]) {
        await check(`MSC4108 at ${path}`, (proxy) =>
            tagged(proxy.device(1), proxy.device(2), path, "text/plain", proxy),
        );
    }
    for (const path of ["/rendezvous", `${unstable}/org.matrix.msc3886/rendezvous`]) {
        await check(`MSC3886 at ${path}`, (proxy) =>
            tagged(proxy.device(1), proxy.device(2), path, "application/json", proxy),
        );
    }
    for (const path of [`${unstable}/io.element.msc4388/rendezvous`, "/_matrix/client/v1/rendezvous"]) {
        await check(`MSC4388 at ${path}`, (proxy) =>
            transactions(proxy.device(1), proxy.device(2), path, proxy.token),
        );
    }
}

async function checkRefusals() {
    await check("preflights and refusals have CORS fields, once", async ({ device }) => {
        const phone = device(1);
        for (const path of [
            "/rendezvous",
            `/rendezvous/${"x".repeat(22)}`,
            `${unstable}/io.element.msc4388/rendezvous`,
            "/_matrix/client/v1/rendezvous/x/y",
        ]) {
            const asked = { origin: "null", "access-control-request-method": "PUT" };
            const answer = (await phone.ask("OPTIONS", path, asked)).is(204);
            assert.match(answer.values("access-control-allow-headers").join(), /If-Match/);
        }
        (await phone.ask("PATCH", "/rendezvous")).is(405);
        (await phone.ask("GET", "/rendezvous/none")).is(404);
        const large = { ...plain, body: "x".repeat(5000) };
        (await phone.ask("POST", "/rendezvous", large)).is(413);
        (await device(1).ask("GET", "/rendezvous/none")).is(404);
    });
}

async function checkForwarded() {
    const lies = {
        "x-forwarded-for": "192.0.2.7",
        forwarded: "for=192.0.2.7;proto=http",
        "x-real-ip": "192.0.2.7",
        "x-forwarded-proto": "http",
    };
    await check(`each client has a quota of its own, whatever it says`, async ({ device }) => {
        const greedy = device(3);
        for (let created = 0; created < burst; created++) {
            (await greedy.ask("POST", "/rendezvous", plain)).is(201);
        }
        for (const lie of [{}, lies, { ...lies, "x-forwarded-for": "127.0.0.1, 192.0.2.7" }]) {
            const refused = (await greedy.ask("POST", "/rendezvous", { ...plain, ...lie })).is(429);
            assert.ok(Number(refused.values("retry-after")) > 0);
        }
        (await device(4).ask("POST", "/rendezvous", plain)).is(201);
    });
    await check("no client makes up the scheme", async ({ device }) => {
        const phone = device(1);
        const { json } = (await phone.ask("POST", "/rendezvous", { ...plain, ...lies })).is(201);
        assert.equal(new URL(json.url).origin, phone.origin);
    });
    await check(
        "no client makes up the host",
        async ({ device }) => {
            const phone = device(1);
            const lie = { ...plain, "x-forwarded-host": "evil.example" };
            const { json } = (await phone.ask("POST", "/rendezvous", lie)).is(201);
            assert.equal(new URL(json.url).origin, phone.origin);
        },
        ({ variant }) => variant !== "hostile",
    );
}

async function checkWhoMayCreate() {
    const auth = ({ variant }) => variant === "auth";
    const create = { "content-type": "application/json", body: '{"data":"x"}' };
    await check("who may create a session of MSC4388", async ({ device, token }) => {
        const phone = device(1);
        const refuses = async (status, code, ...request) => {
            const refused = await phone.ask(...request);
            assert.equal(refused.status, status);
            assert.deepEqual(refused.values("access-control-allow-origin"), ["*"]);
            assert.equal(refused.json.errcode, code);
        };
        const stranger = { authorization: "Bearer of nobody" };
        for (const path of [`${unstable}/io.element.msc4388/rendezvous`, "/_matrix/client/v1/rendezvous/"]) {
            await refuses(403, "M_FORBIDDEN", "POST", path, create);
            await refuses(401, "M_UNKNOWN_TOKEN", "POST", path, { ...create, ...stranger });
            await refuses(401, "M_UNKNOWN_TOKEN", "GET", path, stranger);
            await refuses(200, undefined, "GET", path);
            assert.deepEqual((await phone.ask("GET", path)).json, { create_available: false });
            (await phone.ask("POST", path, { ...create, ...token })).is(200);
            assert.deepEqual((await phone.ask("GET", path, token)).is(200).json, { create_available: true });
            (await phone.ask("OPTIONS", path)).is(204);
        }
    }, auth);
}

/** Restarts the server while two devices of each proxy poll and write. */
async function checkRestart() {
    let restarted = false;
    const restarting = (async () => {
        await sleep(1000);
        await stop();
        await sleep(500);
        await start();
        restarted = true;
    })();
    await check("a restart costs 502 or 503 while it lasts, and no session", async ({ device }) => {
        const [phone, old] = [device(5), device(6)];
        const { json } = (await phone.ask("POST", "/rendezvous", plain)).is(201);
        const seen = new Set();
        // Until the server has been back for ten good answers in a row.
        const insist = async (...request) => {
            for (let tries = 0; tries < 1000; tries++) {
                const answer = await request[0].ask(...request.slice(1));
                seen.add(answer.status);
                if (answer.status < 500) return answer.is(answer.status);
                assert.ok([502, 503].includes(answer.status), `${answer.status}`);
                await sleep(100);
            }
            throw new Error("it does not come back");
        };
        for (let good = 0, number = 0; good < 10; number++) {
            const [reader, writer] = number % 2 ? [phone, old] : [old, phone];
            const news = await insist(reader, "GET", json.url);
            assert.equal(news.status, 200);
            const put = { ...plain, "if-match": news.headers.etag, body: `${number}` };
            // Also if it had been written and only the answer was lost.
            const written = await insist(writer, "PUT", json.url, put);
            assert.equal(written.status, 202);
            good = restarted ? good + 1 : 0;
            await sleep(20);
        }
        return [...seen].sort().join(" ");
    });
    await restarting;
}

/** A minute in which nothing happens on a connection; then a write. */
async function checkIdleMinute() {
    let turn = Promise.resolve();
    await check("a write after an idle minute", async ({ device, keeps }) => {
        const phone = device(7);
        const opened = (await phone.ask("POST", "/rendezvous", plain)).is(201);
        assert.ok((await phone.ask("GET", opened.json.url)).reused, "keep-alive");
        await sleep(61_000);
        const put = { ...plain, "if-match": opened.headers.etag };
        // One after another, so that connections are counted of each alone.
        turn = turn.catch(() => {}).then(async () => {
            const before = await accepted();
            const written = (await phone.ask("PUT", opened.json.url, put)).is(202);
            const anew = (await accepted()) - before;
            if (keeps) assert.equal(anew, 0, "connections to us");
            const connection = (kept) => (kept ? "the same connection" : "a new one");
            return `over ${connection(written.reused)}, to us ${connection(!anew)}`;
        });
        return turn;
    });
}

async function checkSlowBodies() {
    await check("a body that takes 20 s", async ({ device, slow }) => {
        const line = await device(8).trickle("/rendezvous", 20);
        assert.match(line, slow);
        return line;
    });
}

await start();
await checkHealth();
await checkFlows();
await checkExtras();
await checkRefusals();
await checkForwarded();
await checkWhoMayCreate();
await checkRestart();
await Promise.all([checkSlowBodies(), checkIdleMinute()]);
await stop();
conclude("checks");
