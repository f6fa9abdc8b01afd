// Sessions of every protocol, with the operations that they have in common.

import assert from "node:assert/strict";

const unstable = "/_matrix/client/unstable";
const json = (value) => ({ "content-type": "application/json", body: JSON.stringify(value) });

/** Path and media type of sessions with ETags, path alone of those with tokens. */
export const kinds = [
    ["/rendezvous", "text/plain"],
    ["/rendezvous", "application/json"],
    [`${unstable}/org.matrix.msc4108/rendezvous`, "text/plain"],
    [`${unstable}/org.matrix.msc3886/rendezvous`, "application/octet-stream"],
    [`${unstable}/io.element.msc4388/rendezvous`],
    ["/_matrix/client/v1/rendezvous"],
];

/** A session as both devices know it. Create, read, write and end assert their response. */
export class Session {
    /** The node in the id, and the revision that is current, an ETag or a token. */
    constructor(url, type, text, revision) {
        const [id] = url.split("/").slice(-1);
        assert.match(id, /^[a-z0-9]{1,8}[.][\w-]{22}$/);
        Object.assign(this, { node: id.split(".")[0], url, type, text, revision, writes: 0 });
    }

    static async create(device, [path, type], text = "opening") {
        if (!type) {
            const { id, sequence_token } = (await device.ask("POST", path, json({ data: text }))).is(200).json;
            return new Session(`${path}/${id}`, type, text, sequence_token);
        }
        const made = (await device.ask("POST", path, { "content-type": type, body: text })).is(201);
        const { pathname } = new URL(type === "text/plain" ? made.json.url : made.headers.location, device.origin);
        return new Session(pathname, type, text, made.headers.etag);
    }

    get(device, headers = {}) {
        return device.ask("GET", this.url, headers);
    }

    /** A poll that is held where the protocol has it, until the revision is another one. */
    poll(device) {
        return this.get(device, this.type ? { "if-none-match": this.revision } : {});
    }

    put(device, text) {
        const { type, url, revision } = this;
        if (type) return device.ask("PUT", url, { "content-type": type, "if-match": revision, body: text });
        const target = this.writes % 2 ? url : `${url}/transaction-${this.writes}`;
        return device.ask("PUT", target, json({ sequence_token: revision, data: text }));
    }

    async read(device) {
        const answer = (await this.get(device)).is(200);
        const { data, sequence_token } = this.type ? { data: answer.text, sequence_token: answer.headers.etag } : answer.json;
        assert.deepEqual([data, sequence_token], [this.text, this.revision]);
    }

    async write(device, text) {
        const answer = (await this.put(device, text)).is(this.type ? 202 : 200);
        this.revision = this.type ? answer.headers.etag : answer.json.sequence_token;
        this.text = text;
        this.writes++;
    }

    async end(device) {
        (await device.ask("DELETE", this.url)).is(this.type ? 204 : 200);
    }
}
