import assert from "node:assert/strict";

const SAFE_METHODS = ["GET", "HEAD", "POST"];
const SAFE_TYPE = /^(text\/plain|application\/x-www-form-urlencoded|multipart\/form-data)\b/;
const SAFE_ANSWER = ["cache-control", "content-length", "content-type", "expires", "last-modified", "pragma"];

const list = (answer, field) => (answer.headers.get(field) ?? "").toLowerCase().split(/\s*,\s*/);

/** What a page may not send elsewhere without asking first. */
function unsafe(headers) {
    const names = Object.keys(headers).map((name) => name.toLowerCase());
    return names.filter((name) => name !== "content-type" || !SAFE_TYPE.test(headers["Content-Type"]));
}

function mayRead(answer, origin, what) {
    const allowed = answer.headers.get("access-control-allow-origin");
    assert.ok(allowed === "*" || allowed === origin, `${what} for ${origin}: allows ${allowed ?? "nobody"}`);
}

async function preflight(url, method, headers, origin) {
    const asked = unsafe(headers);
    if (SAFE_METHODS.includes(method) && asked.length === 0) return;
    const answer = await fetch(url, {
        method: "OPTIONS",
        redirect: "manual",
        headers: {
            Origin: origin,
            "Access-Control-Request-Method": method,
            ...(asked.length && { "Access-Control-Request-Headers": asked.sort().join(",") }),
        },
    });
    assert.ok(answer.ok, `preflight of ${method} ${url}: ${answer.status}`);
    mayRead(answer, origin, `preflight of ${method} ${url}`);
    if (!SAFE_METHODS.includes(method))
        assert.ok(list(answer, "access-control-allow-methods").includes(method.toLowerCase()), method);
    for (const name of asked) assert.ok(list(answer, "access-control-allow-headers").includes(name), name);
}

/**
 * `fetch` with the rules that a browser has for a page of this origin and node
 * has not (Fetch standard, 3.2 and 4): preflights, also after a redirect, whose
 * other origin then hears "null"; answers that are not for the page are errors,
 * and of the others it sees only the fields exposed.
 */
export function pageOf(origin) {
    return async (url, { method = "GET", headers = {}, body } = {}) => {
        let from = origin;
        for (let hop = 0; hop < 5; hop++) {
            await preflight(url, method, headers, from);
            const answer = await fetch(url, {
                method,
                body,
                redirect: "manual",
                headers: { ...headers, Origin: from },
            });
            mayRead(answer, from, `${method} ${url}`);
            if (answer.status !== 307) {
                const seen = [...SAFE_ANSWER, ...list(answer, "access-control-expose-headers")];
                const get = (name) => (seen.includes(name.toLowerCase()) ? answer.headers.get(name) : null);
                return { status: answer.status, headers: { get }, text: () => answer.text(), json: () => answer.json() };
            }
            const next = new URL(answer.headers.get("location"), url);
            const here = new URL(url).origin;
            if (next.origin !== here && from !== here) from = "null";
            url = next.href;
        }
        assert.fail("redirected for ever");
    };
}
