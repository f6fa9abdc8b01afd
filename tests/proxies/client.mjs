// A device that speaks https to a proxy and shows answers as they came.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { connect } from "node:tls";
import { brotliDecompressSync, gunzipSync } from "node:zlib";

export const host = "matrix.example.org";
const ca = readFileSync(`${process.argv[2]}/tls/ca.pem`);
const decoders = { gzip: gunzipSync, br: brotliDecompressSync };

export class Device {
    /** A client of the proxy at `port` with an address and a connection of its own. */
    constructor(port, localAddress) {
        this.origin = `https://${host}:${port}`;
        this.tls = { host: "127.0.0.1", port, localAddress, ca, servername: host };
        this.agent = new Agent({ ...this.tls, keepAlive: true, maxSockets: 1 });
    }

    /** Sends a request to a path, or to a URL that must be the proxy's. */
    async ask(method, target, { body, ...headers } = {}) {
        const url = new URL(target, this.origin);
        assert.equal(url.origin, this.origin);
        headers = { host: url.host, "accept-encoding": "gzip, deflate, br", ...headers };
        const path = url.pathname;
        return new Promise((resolve, reject) => {
            const sent = request({ ...this.tls, agent: this.agent, method, path, headers });
            sent.setTimeout(30_000, () => sent.destroy(new Error(`${method}: no answer`)));
            sent.on("error", reject);
            sent.on("response", async (message) => {
                const chunks = await message.toArray().catch(reject);
                if (chunks) resolve(new Answer(message, Buffer.concat(chunks), sent.reusedSocket));
            });
            sent.end(body);
        });
    }

    /**
     * Sends the head of a creation and then its body, a byte every half
     * second, for as long as the other side listens, at most `seconds`.
     * The first line of the answer, or "closed".
     */
    async trickle(path, seconds) {
        const socket = connect(this.tls);
        const length = seconds * 2;
        socket.write(
            `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: text/plain\r\n` +
                `Content-Length: ${length}\r\n\r\n`,
        );
        let left = length;
        const timer = setInterval(() => {
            if (left-- > 0) socket.write("x");
        }, 500);
        const limit = setTimeout(() => socket.destroy(), 90_000);
        try {
            return await new Promise((resolve) => {
                socket.on("data", (data) => resolve(String(data).split("\r\n")[0]));
                socket.on("error", () => resolve("closed"));
                socket.on("close", () => resolve("closed"));
            });
        } finally {
            clearInterval(timer);
            clearTimeout(limit);
            socket.destroy();
        }
    }

    close() {
        this.agent.destroy();
    }
}

class Answer {
    constructor({ statusCode, headers, rawHeaders }, bytes, reused) {
        this.status = statusCode;
        this.headers = headers;
        this.raw = rawHeaders;
        this.reused = reused;
        this.encoding = headers["content-encoding"];
        this.text = String(this.encoding && bytes.length ? decoders[this.encoding](bytes) : bytes);
    }

    get json() {
        assert.equal(this.headers["content-type"], "application/json");
        return JSON.parse(this.text);
    }

    values(name) {
        return this.raw.filter((_, at) => at % 2 === 1 && this.raw[at - 1].toLowerCase() === name);
    }

    /** What every answer of rendezvousd has, once, whatever stands before it. */
    is(status) {
        assert.equal(this.status, status, this.text);
        assert.deepEqual(this.values("access-control-allow-origin"), ["*"]);
        assert.deepEqual(this.values("access-control-expose-headers"), ["ETag, Location, X-Max-Bytes, Retry-After"]);
        assert.deepEqual(this.values("cache-control"), ["no-store, no-transform"]);
        return this;
    }

    /** What matrix-rust-sdk wants of every answer that is no error. */
    isDated() {
        for (const name of ["etag", "expires", "last-modified"]) {
            assert.equal(this.values(name).length, 1, `${name} of ${this.status}`);
        }
        return this;
    }
}
