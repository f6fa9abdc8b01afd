//! What is said of a command line that is wrong.

/// The message for an error of argh about these words. Its help text `help` names all
/// flags.
pub(crate) fn explain(error: &str, words: &[&str], help: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    if let Some(word) = line.strip_prefix("Unrecognized argument: ") {
        if let Some(switch) = switch_before(word, words, help) {
            return format!("{switch} is a switch and takes no value: leave out '{word}'");
        }
        return match nearest(word, help) {
            Some(flag) => format!("unknown flag {word}; did you mean {flag}?"),
            None => format!("unknown flag {word}; --help lists all"),
        };
    }
    let twice = line.ends_with(": duplicate values provided");
    match line.split('\'').nth(1) {
        Some("--state-file") if twice => {
            "--state-file is given twice (the systemd units give it already)".into()
        }
        Some(flag) if twice => format!("{flag} is given twice"),
        _ => line.to_owned(),
    }
}

/// The switch that a word was given as a value, with `=` or a space between them.
fn switch_before<'w>(word: &str, words: &[&'w str], help: &str) -> Option<&'w str> {
    if word.starts_with("--") {
        return None;
    }
    // The usage line has switches like this, by their short form if they have one.
    let is_switch = |flag: &str| flag == "--version" || help.contains(&format!("[{flag}]"));
    let mut pairs = words.windows(2);
    let pair = pairs.find(|pair| pair[1] == word && is_switch(pair[0]));
    pair.map(|pair| pair[0])
}

/// The flag that a word begins, or else the one that it is misspelled from: with
/// at most a third of its letters wrong.
fn nearest<'h>(word: &str, help: &'h str) -> Option<&'h str> {
    let flags = || {
        help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|flag| flag.starts_with("--") && flag.len() > 2)
    };
    let begun = || flags().find(|flag| word.len() > 3 && flag.starts_with(word));
    let (distance, flag) = flags()
        .map(|flag| (distance(word.as_bytes(), flag.as_bytes()), flag))
        .min_by_key(|(distance, _)| *distance)?;
    begun().or_else(|| (3 * distance <= word.len()).then_some(flag))
}

/// The edit distance of two words (Levenshtein).
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, left) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Usage: rendezvousd [--listen <address...>] [--log-level <level>]\n  \
        --trusted-proxy   proxy\n  --version, -V     print -- the version\n";

    #[test]
    fn an_unknown_flag_names_the_nearest() {
        for (word, flag) in [
            ("--lisen", Some("--listen")),
            ("-listen", Some("--listen")),
            ("listen", Some("--listen")),
            ("--log", Some("--log-level")),
            ("--trusted-proxies", Some("--trusted-proxy")),
            ("--trusted_proxy", Some("--trusted-proxy")),
            ("--port", None),
            ("--", None),
            ("-x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, HELP), flag, "{word:?}");
        }
    }

    #[test]
    fn the_distance_counts_what_was_typed_wrong() {
        for (from, to, steps) in [
            ("", "ab", 2),
            ("ab", "", 2),
            ("abc", "abc", 0),
            ("abc", "bd", 2),
        ] {
            assert_eq!(distance(from.as_bytes(), to.as_bytes()), steps);
        }
    }
}
