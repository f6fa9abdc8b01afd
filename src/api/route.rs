//! From a path to the endpoint and the resource that it names.

use super::settings::Settings;
use crate::protocol::Protocol;
use crate::session::{PublicId, SessionId};

#[cfg(test)]
mod tests;

/// The path of MSC3886 on a homeserver's host name (its "Unstable prefix").
pub const MSC3886_PATH: &str = "/_matrix/client/unstable/org.matrix.msc3886/rendezvous";

/// The path of MSC4108 there.
pub const MSC4108_PATH: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";

/// The path of MSC4388 there while it is not accepted.
pub const MSC4388_PATH: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";

/// The path of MSC4388 once it is.
pub const STABLE_PATH: &str = "/_matrix/client/v1/rendezvous";

/// Which of MSC4388's paths a request came by: the error of a conflict is
/// named by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stability {
    Stable,
    Unstable,
}

/// A path that sessions are created at, and what is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// The target of homeservers' redirects: MSC3886 or MSC4108, by the
    /// request.
    Redirected,
    Msc3886,
    Msc4108,
    Msc4388(Stability),
}

impl Endpoint {
    /// The protocol, if the path alone tells.
    pub(super) fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Redirected => None,
            Self::Msc3886 => Some(Protocol::Msc3886),
            Self::Msc4108 => Some(Protocol::Msc4108),
            Self::Msc4388(_) => Some(Protocol::Msc4388),
        }
    }
}

/// The resource that a path names below its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource<'a> {
    /// The check page.
    Check,
    /// What the check page asks the server.
    CheckFacts,
    /// The endpoint itself, where sessions are created.
    Create,
    /// A session, if there can be one of that name.
    Session(Option<SessionId>),
    /// A write to a session under a name of its own, MSC4388 only.
    Transaction(Option<SessionId>, &'a str),
    /// A session of another node, or of a server without a name.
    ForeignSession,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    pub(super) endpoint: Endpoint,
    /// The path of the endpoint, without a slash at its end.
    pub(super) create_path: &'a str,
    pub(super) resource: Resource<'a>,
}

impl<'a> Route<'a> {
    /// The route of a path; `None` if it belongs to no endpoint.
    pub(super) fn find(path: &'a str, settings: &'a Settings) -> Option<Self> {
        [
            (settings.prefix.as_str(), Endpoint::Redirected),
            (MSC4108_PATH, Endpoint::Msc4108),
            (STABLE_PATH, Endpoint::Msc4388(Stability::Stable)),
            (MSC4388_PATH, Endpoint::Msc4388(Stability::Unstable)),
            (MSC3886_PATH, Endpoint::Msc3886),
        ]
        .into_iter()
        .find_map(|(create_path, endpoint)| {
            let rest = path.strip_prefix(create_path)?;
            let resource = Resource::find(rest, endpoint, settings)?;
            Some(Self {
                endpoint,
                create_path,
                resource,
            })
        })
    }
}

impl<'a> Resource<'a> {
    /// The resource that the rest of a path names.
    fn find(rest: &'a str, endpoint: Endpoint, settings: &Settings) -> Option<Self> {
        let Settings {
            check_page, node, ..
        } = *settings;
        match rest {
            "" | "/" => return Some(Self::Create),
            // No session's name: those are longer.
            "/check" | "/check/" if endpoint == Endpoint::Redirected && check_page => {
                return Some(Self::Check);
            }
            "/check/server" if endpoint == Endpoint::Redirected && check_page => {
                return Some(Self::CheckFacts);
            }
            _ => {}
        }
        let path = rest.strip_prefix('/')?;
        let (name, transaction) = match path.split_once('/') {
            None => (path, None),
            Some((name, transaction))
                if matches!(endpoint, Endpoint::Msc4388(_)) && !transaction.contains('/') =>
            {
                (name, Some(transaction))
            }
            Some(_) => return None,
        };
        let public = PublicId::parse(name);
        let is_ours = |public: &PublicId| public.node == node;
        if node.is_some() && !public.as_ref().is_none_or(is_ours) {
            return Some(Self::ForeignSession);
        }
        let id = public.filter(is_ours).map(|public| public.id);
        Some(transaction.map_or(Self::Session(id), |name| Self::Transaction(id, name)))
    }
}
