// Three nodes behind each balancer; one line a check.
//
//   node nodes.mjs DIRECTORY RENDEZVOUSD NAME:VARIANT:PORT:NETWORK...
//
// Starts the nodes of each NETWORK at its first three addresses, where the balancer
// looks for them; those of variant `blind` have none of their own: they stand before
// the nodes of the same NETWORK, and do not route by the id. DIRECTORY is theirs, with
// the certificates.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import { conclude, line, proxiesOf } from "../proxies/checks.mjs";
import { tagged, transactions } from "../proxies/flows.mjs";
import { Node } from "./node.mjs";
import { Session, kinds } from "./session.mjs";

const clients = 50;
const sessions = 1000;
const foreign = "rendezvousd_foreign_sessions_total";

/** In this time, in milliseconds, a check every second has found out. */
const notice = 3000;

/**
 * What a balancer answers for sessions of a node that is dead, and for some creations
 * until it has noticed.
 */
const deaths = {
    // It asks another node in the end.
    "haproxy nodes": { lost: "404 M_NOT_FOUND", creations: [] },
    "nginx nodes": { lost: "502", creations: [] },
    // 2.6 has no body any more when it tries the next node.
    "caddy nodes": { lost: "502", creations: [502] },
};

const [directory, program, ...arguments_] = process.argv.slice(2);
const nodes = {};
const balancers = proxiesOf(arguments_).map((proxy, at) => {
    const network = arguments_[at].split(":")[3];
    nodes[network] ??= [1, 2, 3].map((number) => new Node(directory, program, network, number));
    return { ...proxy, nodes: nodes[network] };
});
const all = Object.values(nodes).flat();

process.on("SIGTERM", () => process.exit(1));
setTimeout(() => {
    console.log("FAILED to end within 250 s");
    process.exit(1);
}, 250_000).unref();

/** Runs a check behind all balancers of a variant at the same time. */
async function check(what, run, variant = "nodes") {
    const those = balancers.filter((balancer) => balancer.variant === variant);
    await Promise.all(those.map((balancer) => line(balancer, what, run)));
}

/** Runs something `count` times at once, with a number from 0 on. */
const times = (count, run) => Promise.all(Array.from({ length: count }, (_, number) => run(number)));

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const counted = async (nodes, series) => sum(await Promise.all(nodes.map((node) => node.metric(series))));

/** How often each value is there. */
function tally(values) {
    const counts = {};
    for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
    return counts;
}

const show = (counts) => Object.entries(counts).map(([value, count]) => `${value} ${count} times`).join(", ");

async function untilHeld({ nodes }) {
    for (let tries = 0; tries < 1000; tries++) {
        if (await counted(nodes, 'rendezvousd_connections{state="held"}')) return;
        await sleep(10);
    }
    throw new Error("no poll is held");
}

async function misroutedNone({ nodes }) {
    assert.equal(await counted(nodes, foreign), 0, foreign);
}

/** Creates sessions until each node has one, and so the balancer has them all. */
async function untilAllCreate({ device, nodes }) {
    const phone = device(250);
    const missing = new Set(nodes.map(({ name }) => name));
    for (let tries = 0; tries < 200 && missing.size; tries++) {
        const session = await Session.create(phone, kinds[tries % kinds.length]).catch(() => undefined);
        if (session) missing.delete(session.node);
        await sleep(200);
    }
    assert.deepEqual([...missing], [], "nodes that got no creation");
}

/// The checks

async function checkFamilies() {
    const faithful = { tag: (tag) => tag, poll: 304 };
    for (const [path, type] of kinds) {
        await check(`${path} ${type ?? "with transactions"}`, async (balancer) => {
            const { device } = balancer;
            if (type) await tagged(device(1), device(2), path, type, faithful);
            else await transactions(device(1), device(2), path);
            await misroutedNone(balancer);
        });
    }
}

async function checkSessions() {
    await check(`${sessions} sessions`, async (balancer) => {
        const at = [];
        await times(clients, async (number) => {
            const [phone, old] = [balancer.device(1 + 2 * number), balancer.device(2 + 2 * number)];
            for (let round = 0; round < sessions / clients; round++) {
                const session = await Session.create(phone, kinds[(number + round) % kinds.length]);
                at.push(session.node);
                await session.read(old);
                await session.write(old, `message of ${number} in round ${round}`);
                await session.read(phone);
                await session.end(phone);
                assert.equal((await session.get(old)).is(404).json.errcode, "M_NOT_FOUND");
            }
        });
        assert.deepEqual([at.length, new Set(at).size], [sessions, 3]);
        await misroutedNone(balancer);
        return show(tally(at.sort()));
    });
}

async function checkHeldPolls() {
    const series = 'rendezvousd_held_polls_total{reason="changed"}';
    await check("a write answers the poll that is held", async (balancer) => {
        const [phone, old] = [balancer.device(1), balancer.device(2)];
        const before = await counted(balancer.nodes, series);
        const etags = kinds.filter(([, type]) => type);
        for (let round = 0; round < 2 * etags.length; round++) {
            const session = await Session.create(phone, etags[round % etags.length]);
            const news = session.poll(old);
            await untilHeld(balancer);
            await session.write(phone, `news of round ${round}`);
            assert.equal((await news).is(200).text, session.text);
        }
        assert.equal((await counted(balancer.nodes, series)) - before, 2 * etags.length);
    });
}

/** A node is killed while devices sign in on all, and others begin to. */
async function checkDeath() {
    await check("a node dies", async ({ device, nodes, title }) => {
        const open = await times(clients, async (number) => {
            const [phone, old] = [device(1 + 2 * number), device(2 + 2 * number)];
            return { session: await Session.create(phone, kinds[number % kinds.length]), phone, old };
        });
        const lost = open.filter(({ session }) => session.node === "c");
        const kept = open.filter(({ session }) => session.node !== "c");
        assert.ok(lost.length > 5 && kept.length > 20, `${lost.length} and ${kept.length} sign-ins`);

        let going = true;
        const others = Promise.allSettled(kept.map((signIn) => signInWhile(() => going, signIn)));
        const creations = times(30, (number) => createWhile(() => going, device(101 + number), number));
        const held = lost.filter(({ session }) => session.type).map(({ session, old }) => status(session.poll(old)));
        await sleep(1000);
        await nodes[2].kill();
        const died = performance.now();
        const cut = await Promise.all(held);
        const told = [];
        const timed = async (asked) => status(asked).finally(() => told.push(performance.now() - died));
        const ask = ({ session, phone }) => [session.get(phone), session.put(phone, "too late")];
        const [answers] = await Promise.all([Promise.all(lost.flatMap(ask).map(timed)), sleep(6000)]);
        const later = await Promise.all(lost.flatMap(ask).map(status));
        going = false;

        const failures = (await others).filter(({ reason }) => reason);
        assert.deepEqual(failures, [], "sign-ins of other nodes");
        const writes = sum((await others).map(({ value }) => value));
        const [before, noticing, after] = [[], [], []];
        for (const { began, outcome } of (await creations).flat()) {
            (began < died ? before : began < died + notice ? noticing : after).push(outcome);
        }
        assert.deepEqual(Object.keys(tally(after)).sort(), ["a", "b"], "creations after the check interval");
        assert.ok(after.length > 100, `${after.length} creations`);
        const expected = deaths[title];
        const failed = noticing.filter((outcome) => !["a", "b", ...expected.creations].includes(outcome));
        assert.deepEqual(failed, [], "creations in the check interval");
        assert.deepEqual([...new Set([...answers, ...later])], [expected.lost]);
        assert.deepEqual([...new Set(cut)], ["502"]);
        const shown = [before, noticing, after].map((outcomes) => show(tally(outcomes)));
        return (
            `its ${lost.length} sign-ins got ${expected.lost} within ${(Math.max(...told) / 1000).toFixed(1)} s, ` +
            `their held polls 502; ${kept.length} others went on, ${writes} writes; creations before: ${shown[0]}; in the check interval: ${shown[1]}; after: ${shown[2]}`
        );
    });
    await check("it comes back and gets creations", async (balancer) => {
        await balancer.nodes[2].start();
        await untilAllCreate(balancer);
    });
}

/** The status of a response, with the code of an error if it has one. */
function status(asked) {
    const shown = (answer) => {
        const { errcode } = answer.headers["content-type"] === "application/json" ? answer.is(answer.status).json : {};
        return [answer.status, errcode].filter(Boolean).join(" ");
    };
    return asked.then(shown, (error) => `${error}`);
}

/** Two devices take turns; how many writes there were. */
async function signInWhile(isGoing, { session, phone, old }) {
    for (let [writer, reader] = [phone, old]; isGoing(); [writer, reader] = [reader, writer]) {
        await session.write(writer, `message ${session.writes}`);
        await session.read(reader);
        await sleep(100);
    }
    return session.writes;
}

/** When creations began, and their nodes or what went wrong. */
async function createWhile(isGoing, device, number) {
    const made = [];
    await sleep(10 * number);
    while (isGoing()) {
        const began = performance.now();
        const kind = kinds[(number + made.length) % kinds.length];
        const outcome = await Session.create(device, kind).then(
            ({ node }) => node,
            ({ actual, message }) => actual ?? message,
        );
        made.push({ began, outcome });
        await sleep(300);
    }
    return made;
}

/** All nodes are upgraded, one after the other, while devices sign in on all. */
async function checkUpgrade() {
    await check(`an upgrade of all nodes with ${clients} clients at work`, async (balancer) => {
        const { device, nodes } = balancer;
        let going = true;
        const work = times(clients, async (number) => {
            const [phone, old] = [device(1 + 2 * number), device(2 + 2 * number)];
            const kept = await Session.create(phone, ["/rendezvous", "text/plain"]);
            let requests = 1;
            for (let round = 0; going; round++) {
                requests += await signIn(phone, old, kinds[(number + round) % kinds.length]);
                await kept.write(old, `message ${round}`);
                requests++;
            }
            await kept.read(phone);
            return { node: kept.node, requests: requests + 1 };
        });
        const upgrade = async () => {
            for (const node of nodes) {
                assert.ok((await node.restart()).includes(503), "its health check fails first");
                await untilAllCreate(balancer);
            }
        };
        const [done] = await Promise.all([work, upgrade().finally(() => (going = false))]);
        await misroutedNone(balancer);
        const requests = sum(done.map(({ requests }) => requests));
        return `${requests} requests, none failed; sessions that lasted: ${show(tally(done.map(({ node }) => node).sort()))}`;
    });
}

/** A sign-in of some seconds; how many requests it had. */
async function signIn(phone, old, kind) {
    const session = await Session.create(phone, kind);
    const messages = 6;
    for (let [writer, reader, at] = [phone, old, 0]; at < messages; at++, [writer, reader] = [reader, writer]) {
        const news = kind[1] && session.poll(reader);
        const write = sleep(100 + 300 * Math.random()).then(() => session.write(writer, `message ${at}`));
        const [answer] = await Promise.all([news, write]);
        // A poll is let go when its node stops.
        if (answer?.status !== 304) answer?.is(200);
        await session.read(reader);
    }
    await session.end(old);
    return 2 + messages * (kind[1] ? 3 : 2);
}

/** What it looks like if nothing routes by the id. */
async function checkMisrouting() {
    await check("without a line for each node sessions are not found, and it shows", async ({ device, nodes }) => {
        const before = await counted(nodes, foreign);
        const [phone, old] = [device(1), device(2)];
        let missed = 0;
        for (let round = 0; round < 24; round++) {
            const session = await Session.create(phone, kinds[round % kinds.length]);
            for (const device of [phone, old]) {
                const answer = await session.get(device);
                if (answer.status === 200) continue;
                // By this the check page knows it.
                assert.match(answer.is(404).json.error, /another node/);
                missed++;
            }
        }
        assert.ok(missed > 0);
        assert.equal((await counted(nodes, foreign)) - before, missed);
        return `${missed} of 48`;
    }, "blind");
}

await Promise.all(all.map((node) => node.start()));
await check("all nodes get creations", untilAllCreate);
await checkFamilies();
await checkSessions();
await checkHeldPolls();
await checkUpgrade();
await checkDeath();
await checkMisrouting();
await Promise.all(all.map(async (node) => assert.deepEqual(await node.stop(), [0, null])));
const report = / WARN  refused in the last minute: /;
const lines = all.flatMap(({ log }) => log);
const misrouted = (line) => report.test(line) && line.includes("requests for sessions of other nodes");
assert.ok(lines.some(misrouted), "a warning of the misrouting");
const unexpected = lines.filter((line) => !report.test(line));
assert.deepEqual(unexpected, [], "lines in the logs");
conclude("checks of nodes");
