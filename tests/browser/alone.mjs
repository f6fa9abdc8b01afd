// The check page of a server without a proxy.
//
//   node alone.mjs RENDEZVOUSD

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, request as connect } from "node:http";
import { createInterface } from "node:readline";

import { check, conclude, host, start } from "./browser.mjs";
import * as homeservers from "./homeservers.mjs";
import { lines, picture } from "./page.mjs";

const [program] = process.argv.slice(2);
const msc4108 = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const browser = await start();

/** What ends what a check has started. */
const ends = [];

/** A check, after which nothing that it started is left. */
const holds = (what, run) =>
    check(what, async () => {
        try {
            return await run();
        } finally {
            for (const end of ends.splice(0)) await end();
        }
    });

/** Opens the page, with the name of a homeserver if it is not the page's own. */
async function open(url, homeserver) {
    const page = await browser.newPage();
    ends.push(() => page.close());
    const errors = [];
    page.on("pageerror", (error) => errors.push(error));
    await page.goto(url);
    let seen = await lines(page, "nginx");
    if (homeserver) {
        await page.fill("#homeserver", homeserver);
        await page.click("#again");
        seen = await lines(page, "nginx");
    }
    assert.deepEqual(errors, []);
    return [page, (title) => seen.find((line) => line.title === title), seen];
}

/** A web server of a handler; its port. */
async function site(handler) {
    const server = createServer(handler).listen(0, "127.0.0.1");
    await once(server, "listening");
    ends.push(() => server.closeAllConnections(), () => server.close());
    return server.address().port;
}

/** Passes a request on, with the name it was asked by. */
function pass(request, response, port) {
    const { method, url, headers } = request;
    const onward = connect({ host: "127.0.0.1", port, method, path: url, headers }, (answer) => {
        for (const [name, value] of Object.entries(answer.headers)) response.appendHeader(name, value);
        answer.pipe(response.writeHead(answer.statusCode));
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
}

/** Starts a rendezvousd; its port. */
async function alone(...flags) {
    const server = spawn(program, ["--listen", "127.0.0.1:0", ...flags], { stdio: ["ignore", "ignore", "pipe"] });
    ends.push(() => server.kill());
    for await (const line of createInterface(server.stderr)) {
        const [, port] = line.match(/ready on http:\/\/127\.0\.0\.1:(\d+)/) ?? [];
        if (port) return port;
    }
    throw new Error("rendezvousd does not start");
}

await holds("a quota that is used up is waited for", async () => {
    const port = await alone("--trusted-proxy", "none", "--create-burst", "2", "--create-rate", "60");
    const page = await browser.newPage();
    ends.push(() => page.close());
    await page.goto(`http://127.0.0.1:${port}/rendezvous/check`);
    const waits = () => /^You checked too often; continuing in \d+ s\.$/.test(document.getElementById("verdict").textContent);
    await page.waitForFunction(waits, null, { timeout: 30_000 });
    await picture(page, "quota");
    const seen = await lines(page);
    for (const { title, grade, text } of seen) assert.doesNotMatch(text, /429|too many/, title + grade);
    const seenAs = (title) => seen.find((line) => line.title === title);
    for (const title of ["MSC3886", "MSC4388", "Delegation"]) assert.equal(seenAs(title).grade, "ok", title);
    assert.match(seenAs("Address").text, /Open this page at your proxy's https address/);
    assert.equal(seenAs("Address").pre, "");
});

await holds("the address that the server sees", async () => {
    const port = await alone();
    for (const [forwarded, grade, says] of [
        ["203.0.113.5", "ok", /^the server sees you as 203\.0\.113\.5\. It has to be your own/],
        ["2001:db8::5", "ok", /^the server sees you as 2001:db8::5\./],
        ["172.18.0.1", "skip", /as 172\.18\.0\.1, right if .*add --trusted-proxy 172\.18\.0\.1/],
        ["203.0.113.5, 127.0.0.1", "skip", /as 127\.0\.0\.1, right if .*add --trusted-proxy 127\.0\.0\.1/],
        ["unknown", "skip", /^the proxy does not tell the server: .*no client's IP address/],
    ]) {
        const proxy = await site((request, response) => {
            request.headers["x-forwarded-for"] = forwarded;
            pass(request, response, port);
        });
        const [page, seen] = await open(`http://127.0.0.1:${proxy}/rendezvous/check`);
        assert.equal(seen("Your address").grade, grade, forwarded);
        assert.match(seen("Your address").text, says);
        const report = await page.inputValue("#report");
        assert.match(report, /: Your address: /);
        assert.ok(grade !== "ok" || !report.includes(forwarded), report);
    }
});

await holds("live updates, and proxies that spoil them", async () => {
    const polls = (request) => request.method === "GET" && request.headers["if-none-match"];
    const through = async (flags, spoil) => {
        const port = await alone(...flags);
        const proxy = await site((request, response) => {
            if (polls(request)) spoil(request, response, port);
            else pass(request, response, port);
        });
        const [, seen] = await open(`http://127.0.0.1:${proxy}/rendezvous/check`);
        return seen("Live updates");
    };
    const good = await through([], pass);
    assert.equal(good.grade, "ok", good.text);
    assert.match(good.text, /^a message takes \d+ ms/);
    const off = await through(["--long-poll", "0s"], pass);
    assert.equal(off.grade, "skip", off.text);
    assert.match(off.text, /off \(--long-poll 0s\)/);
    const eager = await through([], (request, response, port) => {
        request.headers.prefer = "wait=0";
        pass(request, response, port);
    });
    assert.equal(eager.grade, "warn", eager.text);
    assert.match(eager.text, /answers polls at once/);
    const cutting = await through([], (request, response) => {
        const cut = () => response.writeHead(504, { "Access-Control-Allow-Origin": "*" }).end("too slow");
        setTimeout(cut, 100);
    });
    assert.equal(cutting.grade, "bad", cutting.text);
    assert.match(cutting.text, /cut off after \d+ ms/);
    assert.match(cutting.pre, /proxy_read_timeout 60s;/);
    const buffering = await through([], (request, response, port) => setTimeout(pass, 6000, request, response, port));
    assert.equal(buffering.grade, "bad", buffering.text);
    assert.match(buffering.text, /not told of a message for 3 s/);
    assert.ok(buffering.marks.includes("proxy_buffering off;"), buffering.marks);
});

await holds("nodes behind a load balancer that routes by the id, and behind one that does not", async () => {
    const ports = { a: await alone("--node", "a"), b: await alone("--node", "b") };
    let turn = 0;
    const balanced = async (node) => {
        const proxy = await site((request, response) => pass(request, response, ports[node(request.url)]));
        return open(`http://127.0.0.1:${proxy}/rendezvous/check`);
    };
    const any = () => "ab"[turn++ % 2];
    const [, right] = await balanced((url) => url.match(/[/]rendezvous[/]([ab])[.]/)?.[1] ?? any());
    for (const title of ["Reachable", "Create a session", "Read", "Write", "Cancel", "Live updates", "MSC3886", "MSC4388"])
        assert.equal(right(title).grade, "ok", `${title}: ${right(title).text}`);
    const [, , wrong] = await balanced(any);
    const told = wrong.filter(({ text }) => /another node was asked\. Route by the id: see NODES in rendezvousd\(8\)/.test(text));
    assert.ok(told.length > 0 && told.every(({ grade }) => grade === "bad"), JSON.stringify(wrong));
    // Created on the one, and looked for on the other.
    const lost = await balanced((url) => (/[/]rendezvous[/][ab][.]/.test(url) ? "b" : "a"));
    for (const title of ["Read", "Write", "MSC3886", "MSC4388"])
        assert.match(lost[1](title).text, /another node was asked/, title);
});

await holds("each proxy has lines, with those that matter marked, to copy", async () => {
    const port = await alone();
    const silent = await site((request, response) => homeservers.respond("silent", request, response));
    const [page, seen] = await open(`http://127.0.0.1:${port}/rendezvous/check`, `http://127.0.0.1:${silent}`);
    const names = await page.$$eval("#proxy option", (options) => options.map(({ value }) => value));
    const proxies = ["nginx", "Nginx Proxy Manager", "Caddy", "Apache", "HAProxy", "Traefik", "Cloudflare Tunnel", "other"];
    assert.deepEqual(names, ["", ...proxies]);
    const shown = new Set();
    for (const name of proxies) {
        await page.selectOption("#proxy", name);
        const { pre } = (await lines(page)).find(({ title }) => title === "MSC4388");
        assert.match(pre, /127\.0\.0\.1:8090|server\.port: "8090"/, name);
        // In a compose file a dollar sign is written twice.
        assert.ok(pre.includes(name === "Traefik" ? "(/|$$)" : "(/|$)"), pre);
        shown.add(pre);
    }
    assert.equal(shown.size, proxies.length);
    // A box for each homeserver, and nothing of a proxy in it.
    const boxes = await page.$$eval("[data-fix=advertise] summary", (all) => all.map((box) => box.textContent));
    assert.deepEqual(boxes, ["Synapse", "tuwunel", "Continuwuity", "other"]);
    assert.doesNotMatch(seen("Advertisement").pre, /8090|location/);
    assert.ok(seen("Advertisement").marks[0].startsWith("msc4108_delegation_endpoint:"));
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.selectOption("#proxy", "Caddy");
    await page.click("[data-fix=route] button");
    await page.waitForFunction(() => document.querySelector("[data-fix=route] button").textContent === "Copied.");
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(copied, /^@rendezvous path_regexp .*\nhandle @rendezvous \{\n    reverse_proxy/);
    await picture(page, "lines");
});

await holds("a rendezvous and a homeserver in which all is good", async () => {
    const port = await alone("--trusted-proxy", "127.0.0.1");
    const proxy = await site((request, response) => {
        Object.assign(request.headers, { "x-forwarded-for": "203.0.113.5", "x-forwarded-proto": "http" });
        if (/versions|auth_metadata|well-known/.test(request.url)) homeservers.respond("homeserver", request, response);
        else pass(request, response, port);
    });
    const [page, , seen] = await open(`http://127.0.0.1:${proxy}/rendezvous/check`);
    // All but the address, which is no https one.
    assert.deepEqual(seen.filter(({ grade }) => grade !== "ok").map(({ title }) => title), ["Address"]);
    assert.equal(await page.textContent("#verdict"), "It works. 1 thing could be better.");
    assert.equal(await page.textContent("#passed summary"), "20 checks passed");
    const headings = await page.$$eval("h1, h2", (all) => all.map(({ textContent }) => textContent));
    const groups = ["Rendezvous (MSC4108, used by Element)", "Other protocols", "Your homeserver"];
    assert.deepEqual(headings, ["Does QR sign-in work?", ...groups]);
    assert.equal(await page.title(), "Does QR sign-in work?");
});

await holds("the page asks for nothing but what it checks", async () => {
    const port = await alone();
    const page = await browser.newPage();
    ends.push(() => page.close());
    const paths = [];
    page.on("request", (request) => paths.push(new URL(request.url()).pathname));
    await page.goto(`http://127.0.0.1:${port}/`);
    assert.equal(new URL(page.url()).pathname, "/rendezvous/check");
    await lines(page);
    assert.ok(!paths.includes("/favicon.ico"), paths.join(" "));
});

await holds("a report can be had where the clipboard is denied", async () => {
    const port = await alone();
    // A name is not trusted as loopback addresses are: no clipboard.
    const [page, , seen] = await open(`http://${host}:${port}/rendezvous/check`);
    assert.equal(await page.evaluate(() => isSecureContext), false);
    await page.click("#copy");
    assert.match(await page.textContent("#copied"), /copy it from there/);
    const selected = await page.$eval("#report", (area) => area.value.slice(area.selectionStart, area.selectionEnd));
    assert.match(selected, /^rendezvousd \d+\.\d+\.\d+ at http:\/\/matrix/);
    assert.match(selected, /\nQR sign-in will not work: \d+ problems?\.$/);
    for (const { word, title, text } of seen) assert.ok(selected.includes(`${word}: ${title}: ${text}`), title);
    // Addresses of sessions do not belong in an issue.
    assert.doesNotMatch(selected, /[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])/);
    await picture(page, "report");
});

/** A rendezvous with a name of its own, and a homeserver elsewhere that does this with MSC4108's paths. */
async function elsewhere(answer) {
    const port = await alone();
    const homeserver = await site((request, response) => {
        if (request.url.startsWith(msc4108)) answer(request, response, port);
        else homeservers.respond("homeserver", request, response);
    });
    const [, seen] = await open(`http://${host}:${port}/rendezvous/check`, `HTTP://127.0.0.1:${homeserver}/_matrix`);
    assert.equal(seen("Advertisement").grade, "ok");
    assert.equal(seen("Device sign-in (OAuth 2.0)").grade, "ok");
    return seen("Delegation");
}

await holds("a homeserver that routes all of MSC4108 here", async () => {
    const { grade, text } = await elsewhere(pass);
    assert.equal(grade, "ok", text);
    assert.match(text, /^the homeserver sends clients to this rendezvous/);
});

await holds("a homeserver that routes the exact path only", async () => {
    const { grade, text, pre } = await elsewhere((request, response, port) => {
        if (request.url === msc4108) pass(request, response, port);
        else homeservers.respond("homeserver", request, response);
    });
    assert.equal(grade, "bad", text);
    assert.match(text, /told http:\/\/127\.0\.0\.1:\d+\. Read: 404/);
    assert.match(pre, /msc\(3886\|4108\)/);
});

await holds("a homeserver with a rendezvous of its own", async () => {
    const other = await alone();
    const { grade, text, pre } = await elsewhere((request, response) => pass(request, response, other));
    assert.equal(grade, "warn", text);
    assert.match(text, /another rendezvous answers/);
    assert.match(pre, /location ~/);
});

await holds("a homeserver that limits itself", async () => {
    const { grade, text } = await elsewhere((_, response) =>
        response.writeHead(429, { "Access-Control-Allow-Origin": "*" }).end("slow down"),
    );
    assert.equal(grade, "bad", text);
    assert.match(text, /^429 from something in between/);
});

await holds("a homeserver that answers nonsense", async () => {
    for (const nonsense of ['{"url":5}', '{"url":["http://x/"]}', "null", '"x"']) {
        const { grade, text } = await elsewhere((_, response) =>
            response.writeHead(201, { "Access-Control-Allow-Origin": "*" }).end(nonsense),
        );
        assert.equal(grade, "bad", nonsense);
        assert.match(text, /gets 201 and no url/);
    }
});

await holds("a server name that delegates", async () => {
    const port = await alone();
    const homeserver = await site((request, response) => homeservers.respond("homeserver", request, response));
    const named = { "m.homeserver": { base_url: `http://127.0.0.1:${homeserver}/` } };
    const name = await site((request, response) => {
        const known = request.url === "/.well-known/matrix/client";
        response.writeHead(known ? 200 : 404, { "Access-Control-Allow-Origin": "*" }).end(JSON.stringify(named));
    });
    const [, seen] = await open(`http://${host}:${port}/rendezvous/check`, `http://127.0.0.1:${name}/a/path`);
    assert.equal(seen("Advertisement").grade, "ok");
    assert.match(seen("Advertisement").text, new RegExp(`127\\.0\\.0\\.1:${homeserver} \\(of \\.well-known\\)`));
});

await holds("a check that fails says so", async () => {
    const port = await alone();
    const page = await browser.newPage();
    ends.push(() => page.close());
    await page.goto(`http://${host}:${port}/rendezvous/check`);
    await lines(page);
    await page.fill("#homeserver", "no:name");
    await page.click("#again");
    await page.waitForFunction(() => !document.getElementById("again").disabled);
    assert.match(await page.textContent("#verdict"), /^The check itself failed: .*URL/);
});

await holds("a rendezvous at the root", async () => {
    const port = await alone("--prefix", "/");
    const silent = await site((request, response) => homeservers.respond("silent", request, response));
    const [, seen] = await open(`http://127.0.0.1:${port}/check`, `http://127.0.0.1:${silent}`);
    assert.equal(seen("Read").grade, "ok");
    assert.match(seen("MSC4388").pre, /^location ~ \^\/ \{/);
});

await holds("a page whose address ends in a slash", async () => {
    for (const [prefix, path] of [["/rendezvous", "/rendezvous/check/"], ["/", "/check/?x"]]) {
        const port = await alone("--prefix", prefix);
        const [page, seen] = await open(`http://127.0.0.1:${port}${path}`);
        const base = `http://127.0.0.1:${port}${prefix}`.replace(/[/]$/, "");
        assert.equal(seen("Reachable").text, `rendezvousd answers at ${base}`);
        assert.equal(seen("Read").grade, "ok");
        assert.ok((await page.inputValue("#report")).includes(` at ${base},`));
    }
});

await holds("a rendezvous that takes less than the page writes", async () => {
    const port = await alone("--max-bytes", "512");
    const [, seen] = await open(`http://127.0.0.1:${port}/rendezvous/check`);
    assert.equal(seen("MSC3886").grade, "warn");
    assert.match(seen("MSC3886").text, /see --max-bytes/);
    // Where it looks for a homeserver there is rendezvousd.
    assert.match(seen("Advertisement").text, /no homeserver/);
    assert.equal(seen("Device sign-in (OAuth 2.0)").grade, "skip");
});

await holds("a page whose script a proxy forbids", async () => {
    const port = await alone();
    const proxy = await site((request, response) => {
        response.appendHeader("Content-Security-Policy", "default-src 'self'");
        pass(request, response, port);
    });
    const page = await browser.newPage();
    ends.push(() => page.close());
    await page.goto(`http://127.0.0.1:${proxy}/rendezvous/check`);
    assert.match(await page.textContent("#verdict"), /the proxy adds a Content-Security-Policy/);
});

await browser.close();
conclude();
