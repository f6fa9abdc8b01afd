// What the check page finds behind proxies, and whether what it advises helps.
//
//   node check.mjs ADVICE ADMIN HOMESERVER SILENT REDIRECTING NAME:VARIANT:PORT...
//
// Starts the homeservers on these ports. For every page that finds something
// the directives it shows are written to ADVICE/NAME-VARIANT. ADMIN is the
// admin port of the server behind the proxies.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";

import { check, conclude, host, start } from "./browser.mjs";
import * as homeservers from "./homeservers.mjs";
import { lines, picture } from "./page.mjs";

const [advice, admin, homeserver, silent, redirecting, ...proxies] = process.argv.slice(2);

const titles = [
    "Reachable", "Web clients (CORS)", "Address", "Your address", "Create a session", "Read", "Poll", "Write",
    "Outdated write", "Caches", "Cancel", "Live updates", "ETag", "Compression", "Clocks", "Time per request",
    "MSC3886", "MSC4388", "Advertisement", "Delegation", "Device sign-in (OAuth 2.0)",
].sort();

/** What the page finds behind every proxy: the browser is on the proxy's machine. */
const everywhere = { "Your address": ["skip", /sees you as 127\.0\.0\.1, .*add --trusted-proxy 127\.0\.0\.1/] };

/**
 * What is not good behind which proxy: how bad, what is said, and a line of
 * what is shown for that proxy.
 */
const found = {
    "nginx hostile": {
        Poll: ["bad", /200/, /proxy_cache off;/],
        "Live updates": ["warn", /answers polls at once/, /proxy_cache off;/],
        ETag: ["warn", /changed to W\/"[0-9a-f]{16}" by the proxy; rendezvousd copes/, /gzip off;/],
        Compression: ["warn", /gzip/, /gzip off;/],
        MSC3886: ["bad", /^Poll: .*200/, /proxy_cache off;/],
        Delegation: ["bad", / Poll: .*200/, /proxy_cache off;/],
    },
    "caddy hostile": { Compression: ["warn", /zstd|gzip/, /encode @others/] },
    "apache hostile": {
        ETag: ["warn", /changed to "[0-9a-f]{16}-(gzip|br)" by the proxy; rendezvousd copes/, /SetEnv no-gzip\n/],
        Compression: ["warn", /br|gzip/, /SetEnv no-brotli\n/],
    },
    "nginx shares": {
        "Web clients (CORS)": ["bad", /Allow-Origin is “\*, \*”/, /add_header X-Rendezvous/],
        Advertisement: ["bad", /no homeserver answers web clients/],
        "Device sign-in (OAuth 2.0)": ["skip", /no homeserver answers/],
    },
    "nginx hides": { "Web clients (CORS)": ["bad", /ETag, Location, X-Max-Bytes: .* is “”/, /add_header/] },
    "nginx deaf": { "Web clients (CORS)": ["bad", /may not write: OPTIONS gives 403/, /add_header/] },
    "nginx charset": {
        Read: ["bad", /text\/plain became text\/plain; charset=utf-8/, /charset off;/],
        Delegation: ["bad", / Read: text\/plain became/, /charset off;/],
    },
    "nginx expires": {
        Caches: ["warn", /Cache-Control became “.*max-age=3600/, /expires off;/],
        Clocks: ["warn", /sessions last 3\d\d\d s, not/, /expires off;/],
        MSC3886: ["warn", /Cache-Control/, /expires off;/],
        Delegation: ["warn", / Caches: Cache-Control/, /expires off;/],
    },
    "nginx errors": {
        Cancel: ["bad", /no answer that a web client may read/, /proxy_intercept_errors off;/],
        MSC3886: ["bad", /^Cancel: no answer/, /proxy_intercept_errors off;/],
        MSC4388: ["bad", /^Read again at .*: no answer/, /add_header X-Rendezvous/],
        Delegation: ["bad", / Cancel: no answer/, /proxy_intercept_errors off;/],
    },
    "nginx caches": {
        Caches: ["bad", /older message/, /proxy_cache off;/],
        "Live updates": ["warn", /answers polls at once/, /proxy_cache off;/],
        Cancel: ["bad", /200 .*instead of 404/, /proxy_cache off;/],
        MSC3886: ["bad", /^Caches: .*older/, /proxy_cache off;/],
        MSC4388: ["bad", /^Caches at .*older/, /proxy_cache off;/],
        Delegation: ["bad", / Caches: .*older/, /proxy_cache off;/],
    },
    "nginx shares-mended": {
        Advertisement: ["bad", /no homeserver answers web clients/],
        "Device sign-in (OAuth 2.0)": ["skip", /no homeserver answers/],
    },
    "nginx nameless": {
        Address: ["bad", /told http:\/\/127\.0\.0\.1:\d+, without TLS/, /X-Forwarded-Host/],
        Delegation: ["bad", /told http:\/\/127\.0\.0\.1:\d+, without TLS/, /X-Forwarded-Host/],
    },
    "nginx silent": {
        MSC4388: ["warn", /none at .*io\.element\.msc4388.* \(404\)/, /location ~/],
        Advertisement: [
            "bad",
            /not offer org\.matrix\.msc4108/,
            /msc4108_delegation_endpoint: "https:\/\/matrix.*\/rendezvous"/,
        ],
        Delegation: ["bad", /gets 404/, /location ~/],
        "Device sign-in (OAuth 2.0)": ["bad", /no device authorization grant/],
    },
};

const words = { ok: "Good", warn: "Improve", bad: "Broken", skip: "Note" };

/** What the page says above all in view of its lines. */
function verdict(seen) {
    const [bad, warn, ok] = ["bad", "warn", "ok"].map((wanted) => seen.filter(({ grade }) => grade === wanted).length);
    if (bad) return `QR sign-in will not work: ${bad} problem${bad > 1 ? "s" : ""}.`;
    return warn ? `It works. ${warn} thing${warn > 1 ? "s" : ""} could be better.` : `QR sign-in should work. All ${ok} checks passed.`;
}

/** Compares what was found with what is expected; what is not named is good. */
function compare(seen, expected) {
    assert.deepEqual(seen.map(({ title }) => title).sort(), titles);
    for (const { grade, word, title, text, change, pre } of seen) {
        const [wanted, says = /./, shows] = { ...everywhere, ...expected }[title] ?? ["ok"];
        assert.equal(grade, wanted, `${title}: ${text}`);
        assert.equal(word, words[grade]);
        assert.match(text, says, title);
        if (shows) assert.match(pre, shows, title);
        assert.equal(Boolean(change), Boolean(shows), title);
    }
}

/** The lines for a proxy that passes nothing on are those of its file. */
async function compareFiles(page) {
    const files = { nginx: "nginx.conf", Caddy: "Caddyfile", Apache: "apache.conf", HAProxy: "haproxy.cfg" };
    const trimmed = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean).join("\n");
    for (const [proxy, file] of Object.entries(files)) {
        await page.selectOption("#proxy", proxy);
        const { pre } = (await lines(page)).find(({ title }) => title === "MSC4388");
        const whole = readFileSync(new URL(`../proxies/good/${file}`, import.meta.url), "utf8");
        assert.ok(trimmed(whole).includes(trimmed(pre)), `${proxy}: ${pre}`);
    }
}

for (const [kind, port] of Object.entries({ homeserver, silent, redirecting })) homeservers.start(kind, port);
const browser = await start();

for (const proxy of proxies) {
    const [name, variant, port] = proxy.split(":");
    await check(`${name} ${variant}`, async () => {
        const page = await browser.newPage({ ignoreHTTPSErrors: true });
        const errors = [];
        page.on("pageerror", (error) => errors.push(error));
        await page.goto(`https://${host}:${port}/rendezvous/check`);
        const seen = await lines(page);
        const marks = [...new Set(seen.flatMap((line) => line.marks))];
        const directives = marks.map((line) => line.replace(/ *#.*/, "")).filter(Boolean);
        if (marks.length) writeFileSync(`${advice}/${name}-${variant}`, directives.join("\n") + "\n");
        await picture(page, `${name}-${variant}`);
        assert.deepEqual(errors, []);
        compare(seen, found[`${name} ${variant}`] ?? {});
        if (variant === "silent") await compareFiles(page);
        const said = await page.textContent("#verdict");
        assert.equal(said, verdict(seen));
        await page.close();
        return said;
    });
}
await check("no page leaves a session, or what looks like a sign-in", async () => {
    const metrics = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
    const value = (name) => Number(metrics.match(new RegExp(`^${name} (\\d+)$`, "m"))[1]);
    assert.equal(value("rendezvousd_sessions"), 0);
    assert.ok(value("rendezvousd_sessions_created_total") > 4 * proxies.length);
    const ended = metrics.match(/^rendezvousd_sessions_ended_total.* [1-9]\d*$/gm);
    assert.deepEqual(ended.filter((line) => !line.includes('outcome="check"')), []);
    assert.equal(ended.length, 3, "of each protocol");
});

await browser.close();
conclude();
