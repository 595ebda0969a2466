//! Shortens the schedule of a failing run to the steps it needs (delta debugging, after Zeller and
//! Hildebrandt, "Simplifying and Isolating Failure-Inducing Input").

use super::plan::{Plan, Timed};

/// Leaves out whatever can be left out while `fails` still says yes, with at most `runs` tries.
pub fn shorten(plan: &Plan, mut runs: usize, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut steps = plan.steps.clone();
    let with = |steps: Vec<Timed>| Plan { steps, ..plan.clone() };
    let mut parts = 2;
    while !steps.is_empty() && runs > 0 {
        let size = steps.len().div_ceil(parts).max(1);
        let without = |start: usize| -> Vec<Timed> {
            let end = (start + size).min(steps.len());
            steps[..start].iter().chain(&steps[end..]).cloned().collect()
        };
        let mut smaller = None;
        for start in (0..steps.len()).step_by(size) {
            if runs == 0 {
                break;
            }
            runs -= 1;
            let candidate = with(without(start));
            if fails(&candidate) {
                smaller = Some(candidate.steps);
                break;
            }
        }
        match smaller {
            Some(fewer) => {
                steps = fewer;
                parts = 2.max(parts - 1);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(steps.len()),
        }
    }
    with(steps)
}

#[cfg(test)]
mod tests {
    use super::super::plan::{self, Step};
    use super::*;

    #[test]
    fn what_is_not_needed_goes() {
        let mut plan = plan::draw(1);
        let at = |at_ms, step| Timed { at_ms, step };
        plan.steps = (0..13).map(|number| at(number, Step::Grow)).collect();
        plan.steps[3].step = Step::Transfer;
        plan.steps[9].step = Step::Transfer;
        let needs = |plan: &Plan| {
            plan.steps.iter().filter(|timed| timed.step == Step::Transfer).count() == 2
        };
        let short = shorten(&plan, 200, needs);
        assert_eq!(short.steps, [at(3, Step::Transfer), at(9, Step::Transfer)]);
        assert_eq!(shorten(&plan, 0, needs).steps.len(), 13);
    }
}
