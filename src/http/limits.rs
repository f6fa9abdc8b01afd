//! The limits of a request head.

/// The longest request head, in bytes. A phone behind a proxy sends some
/// 600, a browser up to 2 KiB, and then come the cookies of all other programs
/// on the homeserver's host name, up to 4 KiB each (RFC 6265, section 6.1).
/// HAProxy passes on heads of 16 KiB.
pub const HEAD_LIMIT: usize = 16 * 1024;

/// The most header fields in a request. Proxies add up to ten to a browser's
/// twenty; Apache and HAProxy pass on about 100.
pub const FIELD_LIMIT: usize = 100;
