//! Lists the planted bugs for `scripts/mutants`, one per line, separated by tabs: its name, where
//! it shows (`sim`, or the name of a scenario), what its author got wrong, what should catch it.

use aqueduct::planted::{Bug, Shows};

fn main() {
    for bug in Bug::ALL {
        let shows = match bug.shows() {
            Shows::Simulation => "sim",
            Shows::Scenario(name) => name,
        };
        println!("{}\t{shows}\t{}\t{}", bug.name(), bug.mistake(), bug.caught_by());
    }
}
