// What the meetings of tests/sdk need of node:assert, in a browser.

const show = (value) => JSON.stringify(value) ?? String(value);

function assert(held, message = "does not hold") {
    if (!held) throw new Error(message);
}

assert.ok = assert;
assert.equal = (seen, wanted) => assert(Object.is(seen, wanted), `${show(seen)} is not ${show(wanted)}`);
assert.deepEqual = (seen, wanted) => assert.equal(show(seen), show(wanted));

export default assert;
