//! Lists the planted bugs for `scripts/mutants`, one per line, separated by tabs: its name, where
//! it shows (`sim`, the name of a scenario, or `test` and the name of a test), what its author got wrong, what should catch it.

use aqueduct::planted::{Bug, Shows};

fn main() {
    for bug in Bug::ALL {
        let shows = match bug.shows() {
            Shows::Simulation => "sim".to_owned(),
            Shows::Scenario(name) => name.into(),
            Shows::Test(name) => format!("test {name}"),
        };
        println!("{}\t{shows}\t{}\t{}", bug.name(), bug.mistake(), bug.caught_by());
    }
}
