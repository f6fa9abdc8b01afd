//! The two ports of the program, for the one server that runs on both.

use std::sync::Arc;

use crate::admin::Admin;
use crate::api::Api;
use crate::client::Peer;
use crate::http::{Answer, Handler, Rejection, Request, Response, WakerSource};

/// The handler of either port: one type, so that the server's code is in the
/// binary once.
#[derive(Debug)]
pub enum Port {
    /// That of the public port.
    Public(Arc<Api>),
    /// That of the admin port.
    Admin(Admin),
}

impl Handler for Port {
    fn respond(&self, request: &Request<'_, '_>, peer: Peer, waker: WakerSource<'_>) -> Answer {
        match self {
            Self::Public(api) => api.respond(request, peer, waker),
            Self::Admin(admin) => admin.respond(request, peer, waker),
        }
    }

    fn reject(&self, rejection: Rejection) -> Response {
        match self {
            Self::Public(api) => api.reject(rejection),
            Self::Admin(admin) => admin.reject(rejection),
        }
    }
}
