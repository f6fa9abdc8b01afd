// Whole meetings of two devices, in each protocol. Tags go back as they came.

import assert from "node:assert/strict";

const rounds = 3;
const MSC4388_CONFLICT = {
    v1: "M_CONCURRENT_WRITE",
    unstable: "IO_ELEMENT_MSC4388_CONCURRENT_WRITE",
};

// As long as real ones: Apache compresses nothing shorter than some 70 bytes.
const message = (name) => `${name} `.padEnd(300, "payload ");

/** The value that a decorated tag was made from. */
const bare = (tag) => tag.replace(/^W\//, "").replace(/-(gzip|br|zstd)"$/, '"');

/**
 * MSC4108, and MSC3886 with another media type. The proxy is known to answer
 * polls of what has not changed with `behaviour.poll`, and to write the tags of
 * reads as `behaviour.tag` says.
 */
export async function tagged(phone, old, path, type, behaviour) {
    const body = (text) => (type === "text/plain" ? text : JSON.stringify({ text }));
    const write = (device, tag, text) =>
        device.ask("PUT", session, { "content-type": type, "if-match": tag, body: body(text) });
    const read = (device, tag) =>
        device.ask("GET", session, tag === undefined ? {} : { "if-none-match": tag, prefer: "wait=0" });

    const opened = await phone.ask("POST", path, { "content-type": type, body: body(message("opening")) });
    opened.is(201).isDated();
    const session = new URL(opened.headers.location, phone.origin + path).href;
    assert.match(session, new RegExp(`^${phone.origin}(${path}|/rendezvous)/([a-z0-9]{1,8}[.])?[\\w-]{22}$`));
    if (type === "text/plain") {
        const { url } = opened.json;
        assert.match(url, new RegExp(`^${phone.origin}(${path}|/rendezvous)/([a-z0-9]{1,8}[.])?[\\w-]{22}$`));
        assert.equal(new URL(url).pathname.split("/").pop(), session.split("/").pop());
    }

    // What each has last seen or written.
    const tags = new Map([[phone, opened.headers.etag]]);
    let text = message("opening");
    let [writer, reader] = [phone, old];
    for (let round = 0; round < 2 * rounds; round++) {
        (await read(writer, tags.get(writer))).is(behaviour.poll).isDated();

        const news = (await read(reader, tags.get(reader))).is(200).isDated();
        assert.equal(news.text, body(text));
        assert.equal(news.headers["content-type"], type);
        const { etag } = news.headers;
        assert.equal(etag, behaviour.tag(bare(etag)), "the tag of a read");
        assert.equal(news.encoding, behaviour.encoding);

        text = message(`message ${round}`);
        const written = (await write(reader, etag, text)).is(202).isDated();
        tags.set(reader, written.headers.etag);

        const late = (await write(writer, etag, "too late")).is(412).isDated();
        const { errcode, "org.matrix.msc4108.errcode": unstable } = late.json;
        const codes = type === "text/plain" ? ["M_UNKNOWN", "M_CONCURRENT_WRITE"] : ["M_CONCURRENT_WRITE", undefined];
        assert.deepEqual([errcode, unstable], codes);
        assert.equal(bare(late.headers.etag), bare(written.headers.etag));
        [writer, reader] = [reader, writer];
    }

    const head = (await reader.ask("HEAD", session)).is(200).isDated();
    assert.equal(head.text, "");
    const tag = (await read(reader)).is(200).headers.etag;
    (await reader.ask("DELETE", session)).is(204);
    for (const answer of [
        await read(reader),
        await read(writer, tag),
        await write(writer, tag, "after the end"),
        await writer.ask("DELETE", session),
    ]) {
        assert.equal(answer.is(404).json.errcode, "M_NOT_FOUND");
    }
}

/** MSC4388, with transactions and without; `token` goes with the creation. */
export async function transactions(phone, old, path, token) {
    const ask = async (device, method, target, value) => {
        const content = value && { "content-type": "application/json", body: JSON.stringify(value) };
        return device.ask(method, path + target, { ...content, ...token });
    };

    assert.deepEqual((await ask(old, "GET", "")).is(200).json, { create_available: true });
    let text = message("opening");
    const { id, sequence_token } = (await ask(phone, "POST", "", { data: text })).is(200).json;

    let known = sequence_token;
    let [writer, reader] = [phone, old];
    const conflict = MSC4388_CONFLICT[path.includes("/v1/") ? "v1" : "unstable"];
    for (let round = 0; round < 2 * rounds; round++) {
        for (const device of [reader, writer]) {
            const { data, sequence_token } = (await ask(device, "GET", `/${id}`)).is(200).json;
            assert.deepEqual([data, sequence_token], [text, known]);
        }
        const before = known;
        text = message(`message ${round}`);
        const target = round % 2 ? `/${id}` : `/${id}/transaction-${round}`;
        const write = () => ask(reader, "PUT", target, { sequence_token: before, data: text });
        known = (await write()).is(200).json.sequence_token;
        assert.notEqual(known, before);
        assert.equal((await write()).is(200).json.sequence_token, known, "a retry is no write");

        const late = { sequence_token: before, data: "too late" };
        assert.equal((await ask(writer, "PUT", `/${id}/late-${round}`, late)).is(409).json.errcode, conflict);
        [writer, reader] = [reader, writer];
    }

    assert.deepEqual((await ask(reader, "DELETE", `/${id}`)).is(200).json, {});
    for (const method of ["GET", "DELETE"]) {
        assert.equal((await ask(writer, method, `/${id}`)).is(404).json.errcode, "M_NOT_FOUND");
    }
}
