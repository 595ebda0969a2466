//! The live view: a block that redraws itself on a terminal, a line a second elsewhere.

use std::io::{IsTerminal, Write};

use super::super::output;
use super::tally::Tally;

/// What the view knows besides the tally.
#[derive(Debug, Default, Clone)]
pub struct Scene {
    pub elapsed_s: f64,
    pub leader: Option<u64>,
    pub term: u64,
    /// Acknowledged events per second since the last picture.
    pub rate: f64,
    /// The last thing that happened.
    pub news: String,
}

/// Draws on stderr, so that stdout has nothing but the report.
pub struct View {
    terminal: bool,
    drawn: usize,
}

impl View {
    pub fn new() -> View {
        View { terminal: std::io::stderr().is_terminal(), drawn: 0 }
    }

    /// Shows the state now.
    pub fn show(&mut self, scene: &Scene, tally: &Tally) {
        let lines = if self.terminal { block(scene, tally) } else { vec![line(scene, tally)] };
        let mut err = std::io::stderr().lock();
        if self.terminal && self.drawn > 0 {
            // Up over the last picture; each line below clears its rest.
            let _ = write!(err, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let clear = if self.terminal { "\x1b[K" } else { "" };
            let _ = writeln!(err, "{line}{clear}");
        }
        self.drawn = lines.len();
    }

    /// Says something that stays.
    pub fn say(&mut self, text: &str) {
        self.drawn = 0;
        eprintln!("{text}");
    }
}

fn leader(scene: &Scene) -> String {
    scene.leader.map_or("electing".into(), |id| format!("node {id}"))
}

fn line(scene: &Scene, tally: &Tally) -> String {
    let delivered: Vec<_> = tally
        .received
        .iter()
        .map(|(n, r)| format!("{n} {}", output::count(r.distinct())))
        .collect();
    format!(
        "{:5.1} s  leader {}  term {}  acked {} ({:.0}/s)  {}  {}",
        scene.elapsed_s,
        leader(scene),
        scene.term,
        output::count(tally.acked()),
        scene.rate,
        delivered.join("  "),
        scene.news
    )
}

fn block(scene: &Scene, tally: &Tally) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        format!("  time       {:.1} s", scene.elapsed_s),
        format!("  leader     {} (term {})", leader(scene), scene.term),
        format!("  accepted   {} events, {:.0}/s", output::count(tally.acked()), scene.rate),
    ];
    for (name, received) in &tally.received {
        lines.push(format!("  {name:<10} {} events", output::count(received.distinct())));
    }
    lines.push(format!("  news       {}", scene.news));
    lines
}
