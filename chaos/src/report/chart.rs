//! Charts over time as SVG. Colours are classes (`c0` to `c7`), so the page decides how they look
//! in the light and in the dark.

use std::fmt::Write;

use super::text;

/// Width of every chart; the page scales it.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 104.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 10.0;
/// Below the chart, for the labels of its axis.
const BOTTOM: f64 = 26.0;
/// A mark is at least this wide, so that it can be seen.
const MARK: f64 = 2.0;
/// Distinct colours.
pub const COLOURS: usize = 8;

/// How values become heights.
#[derive(Debug, Clone, Copy)]
pub enum Scale {
    /// From 0 to this.
    Linear(f64),
    /// From the first, which is not 0, to the second.
    Log(f64, f64),
}

impl Scale {
    /// How far up a value is, from 0 to 1.
    fn part(self, value: f64) -> f64 {
        let part = match self {
            Scale::Linear(most) => value / most,
            Scale::Log(least, most) => (value.max(least) / least).ln() / (most / least).ln(),
        };
        part.clamp(0.0, 1.0)
    }

    fn ticks(self) -> Vec<f64> {
        match self {
            Scale::Linear(most) => {
                let step = nice_step(most / 4.0);
                (0..=5).map(|n| f64::from(n) * step).filter(|tick| *tick <= most * 1.001).collect()
            }
            Scale::Log(least, most) => {
                let decades = (least.log10().ceil() as i32)..=(most.log10().floor() as i32);
                decades.map(|decade| 10f64.powi(decade)).collect()
            }
        }
    }
}

/// A scale that ends at a round number not below `most`.
pub fn linear(most: f64) -> Scale {
    let step = nice_step(most.max(1.0) / 4.0);
    Scale::Linear((most.max(1.0) / step).ceil() * step)
}

/// A scale over whole decades around these values.
pub fn log(least: f64, most: f64) -> Scale {
    let (low, high) = (least.max(1.0).log10().floor(), most.max(1.0).log10().ceil());
    Scale::Log(10f64.powf(low), 10f64.powf(high.max(low + 1.0)))
}

/// The least of 1, 2, 5, 10 … that is not below `least`.
fn nice_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    let of = |step: &f64| step * decade >= least * 0.999;
    [1.0, 2.0, 5.0, 10.0].iter().copied().find(of).unwrap_or(10.0) * decade
}

/// One chart in the making.
pub struct Chart {
    svg: String,
    height: f64,
    /// What the horizontal axis ends at, in its own unit.
    end: f64,
    scale: Scale,
}

impl Chart {
    /// A chart of this height, from 0 to `end`, that says what it is to those who cannot see it.
    pub fn new(height: f64, end: f64, scale: Scale, says: &str) -> Chart {
        let (full, says) = (height + TOP + BOTTOM, text::escape(says));
        let svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {full}\" role=\"img\" aria-label=\"{says}\">\n\
             <rect class=\"plot\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{}\" height=\"{height}\"/>\n",
            WIDTH - LEFT - RIGHT
        );
        Chart { svg, height, end: end.max(1.0), scale }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (at / self.end).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + self.height * (1.0 - self.scale.part(value))
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.svg, "{element}");
    }

    /// Ticks and labels of the horizontal axis, every so much.
    fn axis(&mut self, step: f64, label: impl Fn(f64) -> String) {
        let (bottom, below) = (TOP + self.height, TOP + self.height + 18.0);
        let mut at = 0.0;
        while at <= self.end * 1.0001 {
            let (x, label) = (self.x(at), label(at));
            self.put(format_args!("<path class=\"tick\" d=\"M{x:.1} {bottom}v5\"/>"));
            let end = if x > WIDTH - RIGHT - 12.0 { "end" } else { "middle" };
            let x = if end == "end" { WIDTH - 2.0 } else { x };
            self.put(format_args!(
                "<text class=\"label\" x=\"{x:.1}\" y=\"{below}\" text-anchor=\"{end}\">{label}</text>"
            ));
            at += step;
        }
    }

    /// An axis of time, in microseconds.
    pub fn time_axis(&mut self) {
        let seconds = self.end / 1e6;
        let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0];
        let step = steps.iter().copied().find(|step| seconds / step <= 12.0);
        let step = step.unwrap_or_else(|| nice_step(seconds / 12.0));
        self.axis(step * 1e6, move |at| match step >= 60.0 {
            true => format!("{:.0} min", at / 60e6),
            false => format!("{:.0} s", at / 1e6),
        });
    }

    /// An axis of time spans, in microseconds.
    pub fn span_axis(&mut self) {
        self.axis(nice_step(self.end / 10.0), text::span);
    }

    /// Lines across with what they stand for.
    pub fn values(&mut self, label: impl Fn(f64) -> String) {
        for tick in self.scale.ticks() {
            let (y, label) = (self.y(tick), label(tick));
            let right = WIDTH - RIGHT;
            self.put(format_args!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>"));
            self.put_label(y, &label);
        }
    }

    fn put_label(&mut self, y: f64, label: &str) {
        let (x, y, label) = (LEFT - 8.0, y + 4.0, text::escape(label));
        self.put(format_args!(
            "<text class=\"label\" x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{label}</text>"
        ));
    }

    /// A band over the whole height.
    pub fn band(&mut self, from: f64, to: f64, colour: usize, title: &str) {
        self.block(from, to, (TOP, self.height), &format!("band c{}", colour % COLOURS), title);
    }

    fn block(&mut self, from: f64, to: f64, (y, height): (f64, f64), class: &str, title: &str) {
        let (x, title) = (self.x(from), text::escape(title));
        let width = (self.x(to) - x).max(MARK);
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"><title>{title}</title></rect>"
        ));
    }

    /// A line through points; a gap where there is no value. With `steps` it keeps each value
    /// until the next.
    pub fn line(&mut self, points: &[(f64, Option<f64>)], colour: usize, steps: bool) {
        let (mut path, mut drawing) = (String::new(), false);
        for (at, value) in points {
            let Some(value) = value else {
                drawing = false;
                continue;
            };
            let (x, y) = (self.x(*at), self.y(*value));
            let _ = match (drawing, steps) {
                (false, _) => write!(path, "M{x:.1} {y:.1}h.1"),
                (true, true) => write!(path, "H{x:.1}V{y:.1}"),
                (true, false) => write!(path, "L{x:.1} {y:.1}"),
            };
            drawing = true;
        }
        self.put(format_args!("<path class=\"line c{}\" d=\"{path}\"/>", colour % COLOURS));
    }

    /// A bar from the bottom up to a value.
    pub fn bar(&mut self, from: f64, to: f64, value: f64, colour: usize, title: &str) {
        let y = self.y(value);
        let class = format!("bar c{}", colour % COLOURS);
        self.block(from, to, (y, TOP + self.height - y), &class, title);
    }

    /// A vertical line across, dashed.
    pub fn rule(&mut self, at: f64) {
        let (x, height) = (self.x(at), self.height);
        self.put(format_args!("<path class=\"rule\" d=\"M{x:.1} {TOP}v{height}\"/>"));
    }

    /// A mark over the whole height, for what must not be overlooked.
    pub fn alarm(&mut self, at: f64, title: &str) {
        self.block(at, at, (TOP, self.height), "alarm", title);
    }

    /// Names the rows of a chart whose values are rows, from the top.
    pub fn rows(&mut self, names: &[String]) {
        let height = self.height / names.len().max(1) as f64;
        for (row, name) in names.iter().enumerate() {
            let top = TOP + row as f64 * height;
            self.put_label(top + height / 2.0, name);
            if row > 0 {
                let right = WIDTH - RIGHT;
                self.put(format_args!("<path class=\"grid\" d=\"M{LEFT} {top:.1}H{right}\"/>"));
            }
        }
    }

    /// A block in one of so many rows.
    pub fn cell(
        &mut self,
        (row, rows): (usize, usize),
        from: f64,
        to: f64,
        colour: usize,
        title: &str,
    ) {
        let height = self.height / rows.max(1) as f64;
        let top = TOP + row as f64 * height + height * 0.2;
        let class = format!("bar c{}", colour % COLOURS);
        self.block(from, to, (top, height * 0.6), &class, title);
    }

    pub fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        let ends = [0.0, 3.0, 950.0, 12_345.0].map(|most| match linear(most) {
            Scale::Linear(end) => end,
            Scale::Log(..) => unreachable!(),
        });
        assert_eq!(ends, [1.0, 3.0, 1000.0, 15_000.0]);
        assert_eq!(linear(950.0).ticks(), [0.0, 500.0, 1000.0]);
        assert_eq!(log(150.0, 4e5).ticks(), [100.0, 1e3, 1e4, 1e5, 1e6]);
        assert!((log(100.0, 10_000.0).part(1000.0) - 0.5).abs() < 1e-9);
        assert_eq!(linear(10.0).part(99.0), 1.0);
    }

    #[test]
    fn a_chart_is_well_formed() {
        let mut chart = Chart::new(100.0, 60e6, linear(10.0), "a < b");
        chart.time_axis();
        chart.values(text::short);
        chart.band(1e6, 1e6, 9, "kill \"it\"");
        chart.line(&[(0.0, Some(1.0)), (1e6, None), (2e6, Some(3.0))], 0, false);
        let svg = chart.finish();
        assert!(svg.contains("a &lt; b") && svg.contains("kill &quot;it&quot;"));
        assert!(svg.contains("band c1") && svg.contains("width=\"2.0\""));
        assert!(svg.contains(">60 s<") && svg.contains(">10<"), "{svg}");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }
}
