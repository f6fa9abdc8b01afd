//! Rows of the table of what is counted.

use std::fmt::Display;

/// A section of the closing summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Sessions,
    Creations,
    Requests,
    Connections,
    Defects,
}

/// Names and values of labels. They are ours and need no escaping.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// What series are given to: a suffix of the metric's name, labels, a value.
pub(super) type Emit<'a> = &'a mut dyn FnMut(&str, Labels<'_>, &dyn Display);

/// Where in a snapshot `S` the value of a row is.
pub(super) enum Value<S> {
    /// One number.
    Number(fn(&S) -> u64),
    /// Series with labels of their own, for Prometheus only.
    Series(fn(&S, Emit<'_>)),
}

/// One entry of the table: a value, and where it is shown under what name. An
/// empty text stands for nowhere.
pub(super) struct Row<S> {
    /// The metric's name for Prometheus. Rows of one metric follow each other.
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// What the metric means, for somebody who knows nothing but that. Its last
    /// full stop is not here.
    pub(super) help: &'static str,
    pub(super) labels: Labels<'static>,
    pub(super) value: Value<S>,
    /// Its name in systemd's status line. Neighbours of one name are added.
    pub(super) status: &'static str,
    /// Its name in the minute report of how sign-ins ended.
    pub(super) ended: &'static str,
    /// Its name in the minute report of what was refused.
    pub(super) refused: &'static str,
    /// Its name in the closing summary.
    pub(super) summary: (Section, &'static str),
}

impl<S> Row<S> {
    pub(super) const EMPTY: Self = Self {
        name: "",
        kind: "counter",
        help: "",
        labels: &[],
        value: Value::Number(|_| 0),
        status: "",
        ended: "",
        refused: "",
        summary: (Section::Sessions, ""),
    };
}
