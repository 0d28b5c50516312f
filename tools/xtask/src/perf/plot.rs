//! Plots as SVG: lines over numbers, or bars in groups, with error bars. The same figures always make the same bytes.

use std::fmt::Write as _;

use super::numbers::tick;
use super::results::Spread;

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero on.
    Linear,
    Log,
}

/// The horizontal axis.
#[derive(Debug)]
pub(crate) enum Across {
    Numbers {
        label: String,
        scale: Scale,
    },
    /// Names of groups of bars; the n-th point of a series stands in the group of its `x`.
    Groups(Vec<String>),
}

/// What belongs together and has one colour.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Where on the horizontal axis, and what was measured there.
    pub(crate) points: Vec<(f64, Spread)>,
}

#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    /// What the vertical axis shows, with its unit.
    pub(crate) measure: String,
    pub(crate) across: Across,
    pub(crate) scale: Scale,
    pub(crate) series: Vec<Series>,
}

const WIDTH: f64 = 780.0;
const HEIGHT: f64 = 400.0;
/// The area inside the axes.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 66.0;
const BOTTOM: f64 = 338.0;
/// Between two labels of the horizontal axis, at least.
const LABEL_GAP: f64 = 56.0;
/// Told apart by people who do not see all colours, too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// The shape of a point that looks like a bar.
const SQUARE: usize = 1;

/// One axis: from a value to a place.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
    /// Places of both ends.
    start: f64,
    end: f64,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64>, (start, end): (f64, f64)) -> Self {
        let usable = |value: &f64| value.is_finite() && (scale == Scale::Linear || *value > 0.0);
        let values: Vec<f64> = values.filter(usable).collect();
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let (from, to, ticks) = match scale {
            Scale::Linear => {
                let step = [1.0, 2.0, 2.5, 5.0, 10.0]
                    .map(|step| step * 10_f64.powf((most / 6.0).log10().floor()))
                    .into_iter()
                    .find(|step| step * 6.0 >= most)
                    .unwrap_or(most);
                let count = (most / step).ceil();
                let ticks = (0..=6).map(f64::from).filter(|n| *n <= count).map(|n| n * step);
                (0.0, step * count, ticks.collect())
            }
            Scale::Log => {
                let least = values.iter().copied().fold(most, f64::min);
                let all: Vec<f64> = (-9..=12)
                    .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
                    .collect();
                let from = all.iter().copied().rfind(|tick| *tick <= least).unwrap_or(least);
                let to = all.iter().copied().find(|tick| *tick >= most && *tick > from).unwrap_or(most);
                let between: Vec<f64> =
                    all.iter().copied().filter(|tick| (from..=to).contains(tick)).collect();
                let powers = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-9;
                let many = between.len() > 8;
                (from, to, between.into_iter().filter(|tick| !many || powers(tick)).collect())
            }
        };
        Self { scale, from, to, ticks, start, end }
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value.max(self.from) / self.from).log10() / (self.to / self.from).log10(),
        };
        self.start + share * (self.end - self.start)
    }
}

impl Plot {
    /// The picture, unless there is nothing to show.
    pub(crate) fn svg(&self) -> Option<String> {
        let all = || self.series.iter().flat_map(|series| &series.points);
        all().next()?;
        let up = Axis::new(
            self.scale,
            all().flat_map(|(_, figure)| [figure.low, figure.median, figure.high]),
            (BOTTOM, TOP),
        );
        let mut out = self.head();
        for value in &up.ticks {
            let y = up.at(*value);
            line(&mut out, (LEFT, y), (RIGHT, y), "#dddddd");
            text(&mut out, (LEFT - 8.0, y + 4.5), "end", &tick(*value));
        }
        match &self.across {
            Across::Numbers { label, scale } => {
                let across = Axis::new(*scale, all().map(|(x, _)| *x), (LEFT, RIGHT));
                let mut values: Vec<f64> = match scale {
                    Scale::Log => all().map(|(x, _)| *x).collect(),
                    Scale::Linear => across.ticks.clone(),
                };
                values.sort_by(f64::total_cmp);
                below(&mut out, &across, &values);
                text(&mut out, (f64::midpoint(LEFT, RIGHT), BOTTOM + 44.0), "middle", label);
                // The first lies on top.
                let coloured: Vec<_> = self.series.iter().zip(COLOURS).collect();
                for (series, colour) in coloured.into_iter().rev() {
                    series.line(&mut out, (&across, &up), colour);
                }
            }
            Across::Groups(names) => self.bars(&mut out, names, &up),
        }
        line(&mut out, (LEFT, BOTTOM), (RIGHT, BOTTOM), "#222222");
        self.legend(&mut out);
        out.push_str("</svg>\n");
        Some(out)
    }

    fn head(&self) -> String {
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#222222\" role=\"img\">\n\
             <title>{}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n",
            escaped(&self.title)
        );
        let title = escaped(&self.title);
        let _ = writeln!(out, "<text x=\"14\" y=\"25\" font-size=\"15\" font-weight=\"bold\">{title}</text>");
        text(&mut out, (14.0, 48.0), "start", &self.measure);
        out
    }

    fn bars(&self, out: &mut String, names: &[String], up: &Axis) {
        let group = (RIGHT - LEFT) / names.len() as f64;
        let bar = (group * 0.76 / self.series.len() as f64).min(46.0);
        for (number, name) in names.iter().enumerate() {
            let middle = LEFT + group * (number as f64 + 0.5);
            for (row, part) in name.split('\n').enumerate() {
                text(out, (middle, BOTTOM + 20.0 + 16.0 * row as f64), "middle", part);
            }
            for (place, (series, colour)) in self.series.iter().zip(COLOURS).enumerate() {
                let at = |(x, _): &&(f64, Spread)| (*x - number as f64).abs() < 0.5;
                let Some((_, figure)) = series.points.iter().find(at) else { continue };
                let x = middle + bar * (place as f64 - self.series.len() as f64 / 2.0);
                let y = up.at(figure.median);
                let _ = writeln!(
                    out,
                    "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
                     <title>{}: {}</title></rect>",
                    x + 1.0,
                    bar - 2.0,
                    BOTTOM - y,
                    escaped(&series.name),
                    tick(figure.median)
                );
                error_bar(out, x + bar / 2.0, (up.at(figure.low), up.at(figure.high)), "#222222");
            }
        }
    }

    fn legend(&self, out: &mut String) {
        for (row, (series, colour)) in self.series.iter().zip(COLOURS).enumerate() {
            let y = TOP + 10.0 + 22.0 * row as f64;
            let shape = match self.across {
                Across::Numbers { .. } => row,
                Across::Groups(_) => SQUARE,
            };
            mark(out, shape, (RIGHT + 22.0, y - 4.5), colour, "");
            text(out, (RIGHT + 34.0, y), "start", &series.name);
        }
    }
}

impl Series {
    fn line(&self, out: &mut String, (across, up): (&Axis, &Axis), colour: &str) {
        let place = |(x, figure): &(f64, Spread)| (across.at(*x), up.at(figure.median));
        let path: Vec<String> =
            self.points.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        // Of many points the line is enough.
        let few = self.points.len() <= 30;
        for point in self.points.iter().filter(|_| few) {
            let (x, figure) = point;
            error_bar(out, across.at(*x), (up.at(figure.low), up.at(figure.high)), colour);
            let shape = COLOURS.iter().position(|other| *other == colour).unwrap_or_default();
            mark(
                out,
                shape,
                place(point),
                colour,
                &format!("{}: {} at {}", self.name, tick(figure.median), tick(*x)),
            );
        }
    }
}

/// Ticks and labels of the horizontal axis; a label that would run into the one before is left out.
fn below(out: &mut String, across: &Axis, values: &[f64]) {
    let mut free_from = f64::NEG_INFINITY;
    for value in values {
        let x = across.at(*value);
        if x >= free_from {
            line(out, (x, BOTTOM), (x, BOTTOM + 5.0), "#222222");
            text(out, (x, BOTTOM + 20.0), "middle", &tick(*value));
            free_from = x + LABEL_GAP;
        }
    }
}

/// A point. Shapes differ too, for print and for those who do not see colours.
fn mark(out: &mut String, shape: usize, (x, y): (f64, f64), colour: &str, title: &str) {
    let title = escaped(title);
    let _ = match shape % 3 {
        0 => writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"><title>{title}</title></circle>"
        ),
        SQUARE => writeln!(
            out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\" fill=\"{colour}\"><title>{title}</title></rect>",
            x - 4.0,
            y - 4.0
        ),
        _ => writeln!(
            out,
            "<path d=\"M{x:.1},{:.1} l5,9 h-10 z\" fill=\"{colour}\"><title>{title}</title></path>",
            y - 5.5
        ),
    };
}

/// From the lowest to the highest value, if they are far enough from each other to be seen.
fn error_bar(out: &mut String, x: f64, (low, high): (f64, f64), colour: &str) {
    if (low - high).abs() > 2.0 {
        line(out, (x, low), (x, high), colour);
        for y in [low, high] {
            line(out, (x - 4.0, y), (x + 4.0, y), colour);
        }
    }
}

fn line(out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ =
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn exactly(value: f64) -> Spread {
        Spread { median: value, low: value, high: value }
    }

    #[test]
    fn axes_begin_and_end_at_ticks() {
        let axis = Axis::new(Scale::Linear, [3.0, 47.0].into_iter(), (0.0, 100.0));
        assert_eq!(axis.ticks, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert!((axis.at(25.0) - 50.0).abs() < 1e-9);
        let axis = Axis::new(Scale::Log, [0.0, 7.0, 900.0].into_iter(), (0.0, 100.0));
        assert_eq!(axis.ticks, [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0]);
        let one = Axis::new(Scale::Log, [5.0].into_iter(), (0.0, 100.0));
        assert!(one.at(5.0).is_finite());
    }

    #[test]
    fn a_plot_of_nothing_is_none_and_others_are_whole() {
        let mut plot = Plot {
            title: "a < b".to_owned(),
            measure: "MB/s".to_owned(),
            across: Across::Groups(vec!["one\nhere".to_owned(), "two".to_owned()]),
            scale: Scale::Linear,
            series: vec![Series { name: "x".to_owned(), points: Vec::new() }],
        };
        assert_eq!(plot.svg(), None);
        plot.series[0].points = vec![(1.0, exactly(5.0))];
        let svg = plot.svg().unwrap();
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        plot.across = Across::Numbers { label: "n".to_owned(), scale: Scale::Log };
        assert!(!plot.svg().unwrap().contains("NaN"));
    }
}
