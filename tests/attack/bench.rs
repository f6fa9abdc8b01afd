//! The table of attacks: what bystanders saw and what the server took,
//! beside the predecessor. `tests/attack/run` prints it.
//!
//! `cargo bench --bench attack -- [--seconds N] [--peer PROGRAM] [--only WORDS]`
//!
//! With `--fairness`, it measures instead what bystanders get while others keep
//! the server busy, and fails if that is too little of the usual.

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod bystander;
mod fairness;
mod load;
mod scenario;
mod shares;
mod target;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use attacks::{ATTACKS, Attack};
use bystander::Tally;
use load::Load;
use scenario::{Outcome, run_scenario};
use shares::{FLOODS, Flood, run_flood};
use target::Target;

/// Everything at once is not in the list: it is the list.
const ALL: &str = "everything at once";

/// One outcome takes so many columns.
const WIDTH: usize = 47;

struct Arguments {
    time: Duration,
    peer: Option<PathBuf>,
    only: String,
    fairness: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("arguments: [--seconds N] [--peer PROGRAM] [--only WORDS] [--fairness]");
        return ExitCode::from(2);
    };
    if arguments.fairness {
        return exit_code(fairness::check(&arguments.only));
    }
    print_head(&arguments);
    let chosen = |name: &str| name.contains(&arguments.only);
    let mut remarks = Vec::new();
    let mut good = true;
    for attack in ATTACKS.iter().filter(|attack| chosen(attack.name)) {
        good &= row(attack.name, &[attack], &arguments, &mut remarks);
    }
    if chosen(ALL) {
        let all: Vec<&Attack> = ATTACKS.iter().collect();
        good &= row(ALL, &all, &arguments, &mut remarks);
    }
    println!();
    good &= print_floods(&arguments, &mut remarks);
    for remark in remarks {
        println!("{remark}");
    }
    exit_code(good)
}

/// Prints the table of floods that keep the store full; whether nothing was
/// wrong.
fn print_floods(arguments: &Arguments, remarks: &mut Vec<String>) -> bool {
    println!(
        "{:<34} {:>8} {:>8} {:>5} {:>7} {:>7} {:>5}",
        "a store kept full by", "finished", "refused", "lost", "p50, ms", "p99, ms", "MiB"
    );
    let before = remarks.len();
    let chosen = |flood: &&Flood| flood.name.contains(&arguments.only);
    for flood in FLOODS.iter().filter(chosen) {
        let report = run_flood(flood, arguments.time);
        let defects = report.defects();
        remarks.extend(
            defects
                .iter()
                .map(|defect| format!("{}: {defect}", flood.name)),
        );
        println!(
            "{:<34} {:>8} {:>8} {:>5} {:>7} {:>7} {:>5.0}",
            flood.name,
            report.finished,
            report.refused,
            report.lost,
            millis(&report.tally, 50),
            millis(&report.tally, 99),
            report.usage.peak.as_mib(),
        );
    }
    println!();
    remarks.len() == before
}

fn millis(tally: &Tally, percent: usize) -> String {
    match tally.percentile(percent) {
        Some(time) => format!("{:.2}", time.as_secs_f64() * 1e3),
        None => "-".into(),
    }
}

fn exit_code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Cargo adds `--bench`.
fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments {
        time: Duration::from_secs(5),
        peer: None,
        only: String::new(),
        fairness: false,
    };
    let mut words = env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => arguments.time = Duration::from_secs(words.next()?.parse().ok()?),
            "--peer" => arguments.peer = Some(words.next()?.into()),
            "--only" => arguments.only = words.next()?,
            "--fairness" => arguments.fairness = true,
            _ => return None,
        }
    }
    Some(arguments)
}

fn print_head(arguments: &Arguments) {
    let columns = format!(
        " {:>6} {:>6} {:>5} {:>7} {:>7} {:>5} {:>4}",
        "ok", "failed", "again", "p50, ms", "p99, ms", "MiB", "thr"
    );
    let title = |name: &str| format!(" {name:-^width$}", width = WIDTH - 1);
    let peer = arguments.peer.is_some();
    print!("{:<34}{}", "", title(" rendezvousd "));
    println!(
        "{}",
        if peer {
            title(" predecessor ")
        } else {
            String::new()
        }
    );
    println!(
        "{:<34}{columns}{}",
        "attack",
        if peer { &columns } else { "" }
    );
}

/// Prints a row; whether nothing was wrong with ours.
fn row(name: &str, attacks: &[&Attack], arguments: &Arguments, remarks: &mut Vec<String>) -> bool {
    let alone = (attacks.len() == 1).then(|| attacks[0]);
    let descriptors = alone.and_then(|attack| attack.descriptors);

    let target = Target::ours(descriptors);
    let loads = attacks.iter().map(|attack| (attack.load)(target.server));
    let ours = run_scenario(&target, loads.collect(), arguments.time);
    drop(target);
    let defects = ours.defects();
    remarks.extend(defects.iter().map(|defect| format!("{name}: {defect}")));
    print!("{name:<34}{}", cells(&ours));

    if let Some(program) = &arguments.peer {
        let spoken: Vec<&&Attack> = attacks.iter().filter(|attack| !attack.only_ours).collect();
        if spoken.is_empty() {
            println!("{:>WIDTH$}", "-");
            return defects.is_empty();
        }
        let target = Target::predecessor(program, descriptors);
        let loads: Vec<Load> = spoken
            .iter()
            .map(|attack| (attack.load)(target.server))
            .collect();
        let theirs = run_scenario(&target, loads, arguments.time);
        print!("{}", cells(&theirs));
        let reason = theirs.tally.reason.as_deref();
        remarks.extend(reason.map(|reason| format!("{name}, predecessor: {reason}")));
    }
    println!();
    defects.is_empty()
}

fn cells(outcome: &Outcome) -> String {
    let threads = match outcome.usage.threads {
        Some((least, most)) if least == most => most.to_string(),
        Some((least, most)) => format!("{least}-{most}"),
        None => "-".into(),
    };
    let tally = &outcome.tally;
    format!(
        " {:>6} {:>6} {:>5} {:>7} {:>7} {:>5.0} {:>4}",
        tally.ok,
        tally.failed,
        tally.reopened,
        millis(tally, 50),
        millis(tally, 99),
        outcome.usage.peak.as_mib(),
        threads,
    )
}
