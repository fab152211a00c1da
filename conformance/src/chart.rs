//! Line charts as SVG: several below each other over the same kind of axis, with marks for what happened when.

use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const PLOT_HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TITLE_HEIGHT: f64 = 30.0;
const AXIS_HEIGHT: f64 = 42.0;
const LEGEND_ROW: f64 = 18.0;
/// Above the plot, for the marks of one name.
const LANE: f64 = 9.0;
/// Horizontal room for one entry of a legend.
const LEGEND_ENTRY: f64 = 130.0;
/// Points drawn per line: about one per pixel; of more, the highest and the lowest of each group remain.
const MAX_POINTS: usize = 800;
/// Colours that differ for most colour-blind people, too (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d00", "#555555"];
const MARK_COLOURS: [&str; 6] = ["#e41a1c", "#ff9900", "#7a5195", "#4daf4a", "#888888", "#377eb8"];

/// A chart: lines over a common horizontal axis.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What is shown.
    pub title: String,
    /// Quantity and unit of the horizontal axis, as in `time, s`.
    pub x_label: String,
    /// Quantity and unit of the vertical axis, which begins at 0.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Ticks above the plot, each name in a lane and a colour of its own.
    pub marks: Vec<Mark>,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// From left to right. Between two points that are farther from each other than [`Series::gap`] there is no line.
    pub points: Vec<(f64, f64)>,
    /// The longest distance that is bridged.
    pub gap: f64,
}

/// Something that happened at a place of the horizontal axis.
#[derive(Clone, Debug)]
pub struct Mark {
    /// For the legend.
    pub name: String,
    /// Where.
    pub x: f64,
}

/// An SVG document with the charts below each other, on a white ground.
#[must_use]
pub fn document(charts: &[Chart]) -> String {
    let height: f64 = charts.iter().map(Chart::height).sum();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let mut top = 0.0;
    for chart in charts {
        let _ = writeln!(svg, "<g transform=\"translate(0 {top})\">");
        chart.draw(&mut svg);
        svg.push_str("</g>\n");
        top += chart.height();
    }
    svg.push_str("</svg>\n");
    svg
}

impl Chart {
    fn height(&self) -> f64 {
        self.bottom() + AXIS_HEIGHT + self.legend_rows() as f64 * LEGEND_ROW + 8.0
    }

    /// Where the plot begins, below the title and the marks.
    fn top(&self) -> f64 {
        TITLE_HEIGHT + self.mark_names().len() as f64 * LANE
    }

    fn bottom(&self) -> f64 {
        self.top() + PLOT_HEIGHT
    }

    fn legend_rows(&self) -> usize {
        let per_row = ((WIDTH - LEFT - RIGHT) / LEGEND_ENTRY) as usize;
        self.series.len().div_ceil(per_row) + self.mark_names().len().div_ceil(per_row)
    }

    fn draw(&self, svg: &mut String) {
        let frame = Frame::of(self);
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"20\" font-size=\"15\" font-weight=\"bold\">{}</text>",
            escaped(&self.title)
        );
        self.draw_axes(svg, &frame);
        self.draw_marks(svg, &frame);
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let _ = writeln!(
                svg,
                "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\"/>",
                frame.path(series)
            );
        }
        self.draw_legend(svg);
    }

    fn draw_axes(&self, svg: &mut String, frame: &Frame) {
        let (right, top, bottom) = (WIDTH - RIGHT, self.top(), self.bottom());
        for value in ticks(frame.y_top, 5) {
            let y = frame.y(value);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        for value in ticks(frame.x_end, 10) {
            let x = frame.x(value);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\" stroke=\"#222\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
                bottom + 4.0,
                bottom + 17.0
            );
        }
        let middle = top + PLOT_HEIGHT / 2.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#222\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(16 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            bottom + 33.0,
            escaped(&self.x_label),
            escaped(&self.y_label)
        );
    }

    /// A strong tick in its lane, and below it a faint line over the whole plot.
    fn draw_marks(&self, svg: &mut String, frame: &Frame) {
        let mut lane = TITLE_HEIGHT;
        for (name, colour) in self.mark_names().into_iter().zip(MARK_COLOURS.iter().cycle()) {
            let (mut ticks, mut lines) = (String::new(), String::new());
            for mark in self.marks.iter().filter(|mark| mark.name == name) {
                let x = frame.x(mark.x);
                let _ = write!(ticks, "M{x:.1} {lane}v{}", LANE - 1.0);
                let _ = write!(lines, "M{x:.1} {}V{}", self.top(), self.bottom());
            }
            let _ = writeln!(
                svg,
                "<path d=\"{ticks}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
                 <path d=\"{lines}\" stroke=\"{colour}\" stroke-opacity=\"0.15\"/>"
            );
            lane += LANE;
        }
    }

    /// The names of the marks, each once, in the order of their first use.
    fn mark_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for mark in &self.marks {
            if !names.contains(&mark.name.as_str()) {
                names.push(&mark.name);
            }
        }
        names
    }

    /// First the lines, then the marks.
    fn draw_legend(&self, svg: &mut String) {
        let top = self.bottom() + AXIS_HEIGHT;
        let series: Vec<_> = self.series.iter().map(|series| series.name.as_str()).collect();
        let below = draw_entries(svg, top, &series, &COLOURS, "M0 -4h18");
        draw_entries(svg, below, &self.mark_names(), &MARK_COLOURS, "M9 -11v13");
    }
}

/// Draws entries of a legend from `top` on, each with a `sign` of its colour; returns where they end.
fn draw_entries(svg: &mut String, top: f64, names: &[&str], colours: &[&str], sign: &str) -> f64 {
    let (mut x, mut y) = (LEFT, top + 12.0);
    for (name, colour) in names.iter().zip(colours.iter().cycle()) {
        if x + LEGEND_ENTRY > WIDTH - RIGHT {
            (x, y) = (LEFT, y + LEGEND_ROW);
        }
        let _ = writeln!(
            svg,
            "<g transform=\"translate({x} {y})\"><path d=\"{sign}\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"24\">{}</text></g>",
            escaped(name)
        );
        x += LEGEND_ENTRY;
    }
    if names.is_empty() { top } else { y + LEGEND_ROW - 12.0 }
}

/// Where values are on the plot.
struct Frame {
    top: f64,
    x_end: f64,
    y_top: f64,
}

impl Frame {
    fn of(chart: &Chart) -> Self {
        let points = || chart.series.iter().flat_map(|series| &series.points);
        let x_end =
            points().map(|(x, _)| *x).chain(chart.marks.iter().map(|mark| mark.x)).fold(0.0, f64::max);
        let highest = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = step(highest, 5);
        let x_end = if x_end > 0.0 { x_end } else { 1.0 };
        Self { top: chart.top(), x_end, y_top: (highest / step).ceil() * step }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + value / self.x_end * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PLOT_HEIGHT * (1.0 - value / self.y_top)
    }

    fn path(&self, series: &Series) -> String {
        let mut path = String::new();
        let mut last = f64::NEG_INFINITY;
        for (x, y) in thinned(&series.points) {
            let command = if x - last > series.gap { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(x), self.y(y));
            last = x;
        }
        path
    }
}

/// At most [`MAX_POINTS`] of the points, with all extremes.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MAX_POINTS / 2).max(1);
    if group <= 2 {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(MAX_POINTS);
    for group in points.chunks(group) {
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let extremes = group.iter().min_by(by_height).zip(group.iter().max_by(by_height));
        if let Some((&low, &high)) = extremes {
            let (first, second) = if low.0 <= high.0 { (low, high) } else { (high, low) };
            kept.push(first);
            if second.0 > first.0 {
                kept.push(second);
            }
        }
    }
    kept
}

/// Round numbers from 0 to `end`, about `count` of them.
fn ticks(end: f64, count: u32) -> Vec<f64> {
    let step = step(end, count);
    (0..=(end / step * 1.000_001) as u32).map(|number| round(f64::from(number) * step)).collect()
}

/// 1, 2 or 5 times a power of ten.
fn step(end: f64, count: u32) -> f64 {
    let rough = end / f64::from(count);
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

/// Without what the multiplication has added far behind the point.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_end() {
        assert_eq!(ticks(100.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(7.0, 5), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(ticks(0.3, 3), [0.0, 0.1, 0.2, 0.3]);
    }

    #[test]
    fn thinning_keeps_extremes_and_order() {
        let mut points: Vec<_> = (0..10_000).map(|x| (f64::from(x), 1.0)).collect();
        points[1234].1 = 50.0;
        points[4321].1 = -50.0;
        let kept = thinned(&points);
        assert!(kept.len() <= MAX_POINTS, "{}", kept.len());
        assert!(kept.contains(&(1234.0, 50.0)) && kept.contains(&(4321.0, -50.0)));
        assert!(kept.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_document_names_everything_and_leaves_gaps_open() {
        let series =
            Series { name: "a<b".to_owned(), points: vec![(0.0, 0.0), (1.0, 8.0), (5.0, 10.0)], gap: 2.0 };
        let marks = vec![Mark { name: "cut".to_owned(), x: 2.0 }];
        let chart = Chart {
            title: "Memory".to_owned(),
            x_label: "time, s".to_owned(),
            y_label: "MiB".to_owned(),
            series: vec![series],
            marks,
        };
        let svg = document(&[chart]);
        for text in ["Memory", "time, s", "MiB", "a&lt;b", ">cut<"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        let line = svg.lines().find(|line| line.contains(COLOURS[0])).expect("a line");
        assert_eq!((line.matches('M').count(), line.matches('L').count()), (2, 1), "{line}");
    }
}
