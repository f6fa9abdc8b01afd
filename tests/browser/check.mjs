// What the check page finds behind proxies, and whether what it advises helps.
//
//   node check.mjs ADVICE RENDEZVOUSD ADMIN HOMESERVER SILENT REDIRECTING NAME:VARIANT:PORT...
//
// Starts the homeservers on these ports. For every page that finds something
// the directives it shows are written to ADVICE/NAME-VARIANT. RENDEZVOUSD is
// the program, ADMIN the operator's port of the one behind the proxies.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { check, conclude, host, start } from "./browser.mjs";
import * as homeservers from "./homeservers.mjs";

const [advice, program, admin, homeserver, silent, redirecting, ...proxies] = process.argv.slice(2);
const pictures = new URL("../../target/browser/", import.meta.url).pathname;

/** Which pages are pictured in all ways; the others on a phone by day. */
const pictured = ["nginx-good", "nginx-hostile", "nginx-silent"];

const titles = [
    "Reachable", "Web clients", "Address", "Create", "Read", "Poll", "Write", "Stale write", "Caches", "Cancel",
    "ETag", "Compression", "Clocks", "Time per request", "MSC3886", "MSC4388", "MSC4388, discovery",
    "Advertisement", "Delegation", "Sign-in",
];

/**
 * What is not good behind which proxy: how bad, what is said, and a line of
 * what is shown for that proxy.
 */
const found = {
    "nginx hostile": {
        Poll: ["bad", /200/, /proxy_cache off;/],
        ETag: ["warn", /became W\/"[0-9a-f]{16}"\. rendezvousd undoes that/, /gzip off;/],
        Compression: ["warn", /gzip/, /gzip off;/],
        MSC3886: ["bad", /^Poll: .*200/, /proxy_cache off;/],
    },
    "caddy hostile": { Compression: ["warn", /zstd|gzip/, /encode @others/] },
    "apache hostile": {
        ETag: ["warn", /became "[0-9a-f]{16}-(gzip|br)"\. rendezvousd undoes that/, /no-gzip no-brotli/],
        Compression: ["warn", /br|gzip/, /no-gzip no-brotli/],
    },
    "nginx shares": {
        "Web clients": ["bad", /Allow-Origin is “\*, \*”/, /add_header X-Rendezvous/],
        Advertisement: ["bad", /no homeserver answers web clients/],
        "Sign-in": ["bad", /no device authorization grant/],
    },
    "nginx hides": { "Web clients": ["bad", /ETag, Location, X-Max-Bytes: .* is “”/, /add_header/] },
    "nginx deaf": { "Web clients": ["bad", /may not write: OPTIONS gives 403/, /add_header/] },
    "nginx charset": { Read: ["bad", /text\/plain became text\/plain; charset=utf-8/, /charset off;/] },
    "nginx expires": {
        Caches: ["warn", /Cache-Control became “.*max-age=3600/, /expires off;/],
        Clocks: ["warn", /Expires is 3\d\d\d s after Date/, /expires off;/],
        MSC3886: ["warn", /Cache-Control/, /expires off;/],
    },
    "nginx errors": {
        Cancel: ["bad", /no answer that a web client may read/, /proxy_intercept_errors off;/],
        MSC3886: ["bad", /^Cancel: no answer/, /proxy_intercept_errors off;/],
        MSC4388: ["bad", /^Read again: no answer/, /add_header X-Rendezvous/],
    },
    "nginx caches": {
        Caches: ["bad", /older message/, /proxy_cache off;/],
        Cancel: ["bad", /200 .*instead of 404/, /proxy_cache off;/],
        MSC3886: ["bad", /^Caches: .*older/, /proxy_cache off;/],
        MSC4388: ["bad", /^Caches: .*older/, /proxy_cache off;/],
    },
    "nginx shares-mended": {
        Advertisement: ["bad", /no homeserver answers web clients/],
        "Sign-in": ["bad", /no device authorization grant/],
    },
    "nginx nameless": { Address: ["bad", /told http:\/\/127\.0\.0\.1:\d+, without TLS/, /X-Forwarded-Host/] },
    "nginx silent": {
        MSC4388: ["skip", /does not lead here/],
        "MSC4388, discovery": ["warn", /io\.element\.msc4388/, /location ~/],
        Advertisement: ["bad", /no org\.matrix\.msc4108/, /msc4108_delegation_endpoint: "https:\/\/matrix/],
        Delegation: ["bad", /gets 404/, /msc4108_delegation_endpoint: "https:\/\/matrix.*\/rendezvous"/],
        "Sign-in": ["bad", /no device authorization grant/],
    },
};

/** The lines of the page once it is done. */
async function lines(page) {
    await page.waitForFunction(() => !document.getElementById("again").disabled && document.querySelector("li"), null, {
        timeout: 60_000,
    });
    const seen = await page.$$eval("li", (items) =>
        items.map((item) => ({
            grade: item.className,
            word: item.querySelector("b").textContent,
            title: item.querySelector("strong").textContent.replace(":", ""),
            text: [...item.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join("").trim(),
            change: item.querySelector("p")?.textContent,
            pre: item.querySelector("pre")?.textContent ?? "",
        })),
    );
    for (const line of seen.filter(({ change }) => change?.endsWith(" See above."))) {
        line.change = line.change.replace(" See above.", "");
        line.pre = seen.find(({ change }) => change === line.change).pre;
    }
    return seen;
}

const words = { ok: "Good", warn: "Improve", bad: "Broken", skip: "Not checked" };

/** Compares what was found with what is expected; what is not named is good. */
function compare(seen, expected) {
    assert.deepEqual(seen.map(({ title }) => title), titles);
    for (const { grade, word, title, text, change, pre } of seen) {
        const [wanted, says = /./, shows] = expected[title] ?? ["ok"];
        assert.equal(grade, wanted, `${title}: ${text}`);
        assert.equal(word, words[grade]);
        assert.match(text, says, title);
        if (shows) assert.match(pre, shows, title);
        assert.equal(Boolean(change), Boolean(shows), title);
    }
}

/** Pictures of the page on phone and desktop, by day and night. */
async function picture(page, name) {
    for (const [width, scheme] of [[360, "light"], [1280, "dark"], [360, "dark"], [1280, "light"]].slice(0, pictured.includes(name) ? 4 : 1)) {
        await page.emulateMedia({ colorScheme: scheme });
        await page.setViewportSize({ width, height: 800 });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        assert.ok(!wide, `wider than ${width}`);
        await page.screenshot({ path: `${pictures}${name}-${width}-${scheme}.png`, fullPage: true });
    }
}

/** The lines for a proxy that passes nothing on are those of its file. */
async function compareFiles(page) {
    const files = { nginx: "nginx.conf", Caddy: "Caddyfile", Apache: "apache.conf", HAProxy: "haproxy.cfg" };
    const trimmed = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean).join("\n");
    for (const [proxy, file] of Object.entries(files)) {
        await page.selectOption("#proxy", proxy);
        const { pre } = (await lines(page)).find(({ title }) => title === "MSC4388, discovery");
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
        const pre = [...new Set(seen.map((line) => line.pre).filter(Boolean))];
        const directives = pre.join("\n").split("\n").map((line) => line.replace(/ *#.*/, "")).filter(Boolean);
        if (pre.length) writeFileSync(`${advice}/${name}-${variant}`, directives.join("\n") + "\n");
        await picture(page, `${name}-${variant}`);
        assert.deepEqual(errors, []);
        compare(seen, found[`${name} ${variant}`] ?? {});
        if (variant === "silent") await compareFiles(page);
        const summary = await page.textContent("#summary");
        await page.close();
        return summary;
    });
}
await check("no page leaves a session", async () => {
    const metrics = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
    const value = (name) => Number(metrics.match(new RegExp(`^${name} (\\d+)$`, "m"))[1]);
    assert.equal(value("rendezvousd_sessions"), 0);
    assert.ok(value("rendezvousd_sessions_created_total") > 4 * proxies.length);
});

/** Starts another rendezvousd, alone; its port and how to end it. */
async function alone(...flags) {
    const server = spawn(program, ["--listen", "127.0.0.1:0", ...flags], { stdio: ["ignore", "ignore", "pipe"] });
    for await (const line of createInterface(server.stderr)) {
        const [, port] = line.match(/ready on http:\/\/127\.0\.0\.1:(\d+)/) ?? [];
        if (port) return [port, () => server.kill()];
    }
    throw new Error("rendezvousd does not start");
}

await check("a quota that is used up has its own words", async () => {
    const [port, end] = await alone("--trusted-proxy", "none", "--create-burst", "2", "--create-rate", "1");
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${port}/rendezvous/check`);
    const seen = await lines(page);
    end();
    for (const title of ["MSC3886", "MSC4388", "Delegation"]) {
        const { grade, text, pre } = seen.find((line) => line.title === title);
        assert.equal(grade, "warn");
        assert.match(text, /^too many sessions from your address\. Check again in [1-9]\d* s\./, title);
        assert.match(pre, /X-Forwarded-For/);
    }
    await picture(page, "quota");
    await page.close();
});

await check("a report can be had where the clipboard is denied", async () => {
    const [port, end] = await alone();
    const page = await browser.newPage();
    // A name is not trusted as loopback addresses are: no clipboard.
    await page.goto(`http://${host}:${port}/rendezvous/check`);
    const seen = await lines(page);
    end();
    assert.equal(await page.evaluate(() => isSecureContext), false);
    await page.click("#copy");
    assert.match(await page.textContent("#copied"), /copy it from there/);
    const selected = await page.$eval("#report", (area) => area.value.slice(area.selectionStart, area.selectionEnd));
    assert.match(selected, /^rendezvousd \d+\.\d+\.\d+ at http:\/\/matrix/);
    for (const { word, title, text } of seen) assert.ok(selected.includes(`${word}: ${title}: ${text}`), title);
    // Addresses of sessions do not belong in an issue.
    assert.doesNotMatch(selected, /[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])/);
    await picture(page, "report");
    await page.close();
});

await browser.close();
conclude();
