// Who the client is behind several proxies in a row; one line a check.
//
//   node chains.mjs RENDEZVOUSD DIRECTORY
//
// The proxies run with the configurations in chains; each chain has a port for
// clients. DIRECTORY has the Unix sockets. Each chain is tried with the flags
// that the server itself asks for in its warnings, from the defaults on, until
// it warns of nothing: with the last of them each client has a quota of its own.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { request } from "node:http";
import { createInterface } from "node:readline";

const burst = 2;
const [program, directory] = process.argv.slice(2);
const v4 = ["198.18.1.1", "198.18.1.2"];
const v6 = ["2001:db8:1::1", "2001:db8:2::1"];

const chains = [
    { title: "nginx, haproxy", port: 8201, asked: ["127.0.0.3", "127.0.0.2"] },
    { title: "caddy, nginx, haproxy", port: 8202, asked: ["127.0.0.3", "127.0.0.2", "127.0.0.1"] },
    { title: "haproxy, apache, caddy", port: 8203, asked: ["127.0.0.1", "127.0.0.4"] },
    { title: "nginx, haproxy by Forwarded", port: 8204, asked: ["127.0.0.3", "127.0.0.2"] },
    {
        title: "the same over IPv6",
        port: 8204,
        host: "::1",
        clients: v6,
        asked: ["127.0.0.3", "127.0.0.2"],
    },
    { title: "caddy, nginx to a Unix socket", port: 8205, asked: ["unix", "127.0.0.1"] },
    { title: "caddy, nginx at a Unix socket", port: 8206, asked: undefined },
    { title: "the same, passing on the list", port: 8207, asked: [] },
];

// What clients say of themselves: as the first proxy would, as if there were
// more, and so that what follows cannot be read.
const lies = [
    { "x-forwarded-for": "192.0.2.7", forwarded: "for=192.0.2.7" },
    { "x-forwarded-for": "192.0.2.7, 127.0.0.1", forwarded: "for=192.0.2.7, for=127.0.0.1" },
    { "x-forwarded-for": "unknown", forwarded: 'for="192.0.2.7' },
];

/** Runs the server with these flags while `use` runs; the warnings of it. */
async function serve(flags, use) {
    const listen = ["--listen", "127.0.0.1:8090", "--listen", `unix:${directory}/rendezvousd.sock`];
    const limits = ["--create-burst", burst, "--create-rate", 1];
    const server = spawn(program, [...listen, ...limits, ...flags], {
        stdio: ["ignore", "ignore", "pipe"],
    });
    const log = createInterface(server.stderr);
    const ended = once(log, "close");
    const lines = [];
    const ready = new Promise((resolve, reject) => {
        ended.then(() => reject(new Error(`rendezvousd ended: ${lines.join("\n")}`)));
        log.on("line", (line) => {
            lines.push(line);
            if (line.includes(" ready on ")) resolve();
        });
    });
    try {
        await ready;
        await use();
    } finally {
        // It would wait for the proxies' idle connections.
        server.kill("SIGKILL");
        await ended;
    }
    return lines.filter((line) => line.includes(" WARN "));
}

/** The status of a creation by a client with this address. */
async function create({ host = "127.0.0.1", port }, localAddress, headers = {}) {
    headers = { "content-type": "text/plain", ...headers };
    const sent = request({ host, port, localAddress, method: "POST", path: "/rendezvous", headers });
    sent.setTimeout(10_000, () => sent.destroy(new Error("no answer")));
    sent.end("x");
    const [answer] = await once(sent, "response");
    answer.resume();
    return answer.statusCode;
}

/** The statuses of a burst, of one more, of lies and of another client. */
async function tryOut(chain) {
    const [greedy, other] = chain.clients ?? v4;
    const statuses = [];
    for (let created = 0; created <= burst; created++) statuses.push(await create(chain, greedy));
    for (const lie of lies) statuses.push(await create(chain, greedy, lie));
    statuses.push(await create(chain, other));
    return statuses.join(" ");
}

const unlimited = "201 201 201 201 201 201 201";
const limited = "201 201 429 429 429 429 201";

async function check(chain) {
    const asked = [];
    for (;;) {
        let statuses;
        const flags = asked.flatMap((name) => ["--trusted-proxy", name]);
        const warnings = await serve(flags, async () => (statuses = await tryOut(chain)));
        if (warnings.length === 0) {
            assert.equal(statuses, limited);
            assert.deepEqual(asked, chain.asked);
            const flags = asked.length ? `with --trusted-proxy ${asked.join(", ")}` : "by default";
            return `each client has a quota ${flags}`;
        }
        assert.equal(warnings.length, 1);
        assert.equal(statuses, unlimited);
        const names = [...warnings[0].matchAll(/--trusted-proxy (\S+)/g)].map(([, name]) => name);
        if (!chain.asked) {
            assert.match(warnings[0], /no client's IP address/);
            return "names no client, and the warning says so";
        }
        assert.ok(names.length, warnings[0]);
        asked.push(...names);
    }
}

let failed = 0;
for (const chain of chains) {
    try {
        console.log(`ok     ${chain.title.padEnd(29)} ${await check(chain)}`);
    } catch (error) {
        console.log(`FAILED ${chain.title.padEnd(29)} ${error.stack}`);
        failed++;
    }
}
console.log(`${chains.length - failed} chains held, ${failed} failed`);
process.exit(failed ? 1 : 0);
