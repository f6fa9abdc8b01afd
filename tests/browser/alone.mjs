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
    let seen = await lines(page);
    if (homeserver) {
        await page.fill("#homeserver", homeserver);
        await page.click("#again");
        seen = await lines(page);
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

await holds("a quota that is used up has its own words", async () => {
    const port = await alone("--trusted-proxy", "none", "--create-burst", "2", "--create-rate", "1");
    const [page, seen] = await open(`http://127.0.0.1:${port}/rendezvous/check`);
    for (const title of ["MSC3886", "MSC4388", "Delegation"]) {
        const { grade, text, pre } = seen(title);
        assert.equal(grade, "warn");
        assert.match(text, /^too many sessions from your address\. Check again in half a minute\./, title);
        // The operator who has looked several times has nothing to change.
        assert.equal(pre, "");
    }
    assert.match(seen("Address").text, /Open this page at your proxy's https address/);
    assert.equal(seen("Address").pre, "");
    await picture(page, "quota");
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
    assert.equal(seen("Sign-in").grade, "ok");
    return seen("Delegation");
}

await holds("a homeserver that routes all of MSC4108 here", async () => {
    const { grade, text } = await elsewhere(pass);
    assert.equal(grade, "ok", text);
    assert.match(text, /its path leads here/);
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
    assert.match(pre, /msc4108_delegation_endpoint/);
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
    assert.match(await page.textContent("#summary"), /^The check itself failed: .*URL/);
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
    assert.equal(seen("Sign-in").grade, "skip");
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
    assert.match(await page.textContent("#summary"), /the proxy adds a Content-Security-Policy/);
});

await browser.close();
conclude();
