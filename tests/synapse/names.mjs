// Every name is this machine, for whatever node runs: node --import ./names.mjs
import dns from "node:dns";

const { lookup } = dns;
dns.lookup = (name, ...rest) => lookup("127.0.0.1", ...rest);
