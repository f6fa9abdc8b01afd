//! A request as a handler sees it.

use super::head::Head;

/// A request whose head is complete. Its body may not be there yet.
#[derive(Debug)]
pub struct Request<'b, 'f> {
    /// Everything before the body.
    pub head: Head<'b, 'f>,
    /// The body, without its transfer coding; `None` if it is not read yet.
    body: Option<&'b [u8]>,
}

/// The body has to be read before the request can be answered; this is the
/// largest that it may be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimit(pub usize);

impl<'b, 'f> Request<'b, 'f> {
    pub(super) fn new(head: Head<'b, 'f>, body: Option<&'b [u8]>) -> Self {
        Self { head, body }
    }

    /// The body.
    ///
    /// # Errors
    /// It is not read yet, or has more than `limit` bytes.
    pub fn body(&self, limit: usize) -> Result<&'b [u8], BodyLimit> {
        let body = self.body.filter(|body| body.len() <= limit);
        body.ok_or(BodyLimit(limit))
    }

    /// Whether the body is read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.body.is_some()
    }
}
