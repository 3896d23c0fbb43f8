//! Bar charts as standalone SVG text, written without a plotting crate: the charts need few
//! kinds of shapes. Equal values give equal files.

/// Okabe and Ito's palette, which colour-blind readers can tell apart. Black is left out, because
/// it would vanish on a dark page; yellow, the faintest colour on a light page, comes last.
const COLOURS: [&str; 7] =
    ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"];

/// The style sheet. It has no CSS variables, because many converters do not know them.
const STYLE: &str = "text { fill: #1f2328 } .title { font-size: 16px; font-weight: 600 }
.tick { text-anchor: end } .label, .unit, .value { text-anchor: middle }
.value { font-size: 11px; paint-order: stroke; stroke: #ffffff; stroke-width: 3px }
.paper { fill: #ffffff } .grid { stroke: #d8dee4 } .axis, .whisker { stroke: #1f2328 }
.halo, .whisker { fill: none; stroke-width: 1.5px } .halo { stroke: #ffffff; stroke-width: 4px }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .value, .halo { stroke: #0d1117 }
  .paper { fill: #0d1117 } .grid { stroke: #30363d } .axis, .whisker { stroke: #e6edf3 }
}";

// Lengths in pixels; the title and the legend are above the plot's `TOP`.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = TOP + 280.0;
const HEIGHT: f64 = BOTTOM + 36.0;
/// The width per bar: enough for the bar's value in text.
const SLOT: f64 = 46.0;
const BAR_WIDTH: f64 = 30.0;
/// The width of a legend entry without its name.
const ENTRY: f64 = 36.0;

/// One bar: median and extremes of several runs, in the chart's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// The index of its series in [`BarChart::series`].
    pub series: usize,
    /// The bar's height. A bar whose median is NaN or infinite is not drawn.
    pub median: f64,
    /// The lower end of the whisker. The whisker is left out if an end is NaN or infinite.
    pub low: f64,
    /// The upper end of the whisker.
    pub high: f64,
}

impl Bar {
    fn whisker(&self) -> Option<(f64, f64)> {
        (self.low.is_finite() && self.high.is_finite()).then_some((self.low, self.high))
    }

    /// The highest value that is drawn: of the bar or of its whisker.
    fn top(&self) -> f64 {
        self.whisker().map_or(self.median, |(low, high)| self.median.max(low).max(high))
    }

    /// Draws the bar around the horizontal position `x`, in pixels; `y` turns a value into a
    /// vertical position.
    fn to_svg(&self, x: f64, y: impl Fn(f64) -> f64, decimal: char) -> String {
        let (left, top) = (x - BAR_WIDTH / 2.0, y(self.median));
        let (height, fill) = (BOTTOM - top, COLOURS[self.series % COLOURS.len()]);
        let mut svg = format!(
            "<rect class='bar' x='{left:.1}' y='{top:.1}' width='{BAR_WIDTH:.1}' \
             height='{height:.1}' fill='{fill}'/>\n"
        );
        if let Some((low, high)) = self.whisker() {
            let (left, right, low, high) = (x - 5.0, x + 5.0, y(low), y(high));
            // The halo separates a whisker from a bar of a similar colour.
            for class in ["halo", "whisker"] {
                svg.push_str(&format!(
                    "<path class='{class}' d='M{left:.1} {high:.1}H{right:.1}\
                     M{x:.1} {high:.1}V{low:.1}M{left:.1} {low:.1}H{right:.1}'/>\n"
                ));
            }
        }
        svg + &text("value", x, y(self.top()) - 6.0, &number(self.median, decimal))
    }
}

/// Bars side by side above one label, in the order of the chart's series.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The label, such as "10 % loss".
    pub label: String,
    /// At most one bar per series; a second bar of a series is not drawn.
    pub bars: Vec<Bar>,
}

impl Group {
    fn bar(&self, series: usize) -> Option<&Bar> {
        self.bars.iter().find(|bar| bar.series == series && bar.median.is_finite())
    }
}

/// A chart of grouped vertical bars on an axis from 0.
#[derive(Debug, Clone, PartialEq)]
pub struct BarChart {
    /// The title above the chart.
    pub title: String,
    /// The unit of the values.
    pub unit: String,
    /// The legend's names; colours repeat after the seventh.
    pub series: Vec<String>,
    /// The groups, from left to right.
    pub groups: Vec<Group>,
    /// The decimal mark of the language.
    pub decimal: char,
}

impl BarChart {
    /// Draws the chart as a whole SVG file. A negative value is printed, but its bar has no height.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let width = self.width();
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0}' height='{HEIGHT:.0}' \
             viewBox='0 0 {width:.0} {HEIGHT:.0}' role='img' \
             font-family='system-ui, sans-serif' font-size='12'>\n\
             <title>{}</title>\n<style>\n{STYLE}\n</style>\n\
             <rect class='paper' width='{width:.0}' height='{HEIGHT:.0}'/>\n\
             <text class='unit' transform='translate(18 {:.1}) rotate(-90)'>{}</text>\n",
            escape(&self.title),
            (TOP + BOTTOM) / 2.0,
            escape(&self.unit)
        );
        svg.push_str(&text("title", LEFT, 28.0, &self.title));
        let mut x = LEFT;
        for (index, name) in self.series.iter().enumerate() {
            let fill = COLOURS[index % COLOURS.len()];
            let swatch = format!("<path d='M{x:.1} 42h12v12h-12z' fill='{fill}'/>\n");
            svg.push_str(&(swatch + &text("name", x + 18.0, 52.0, name)));
            x += ENTRY + text_width(name);
        }
        let bars = (0..self.series.len())
            .flat_map(|series| self.groups.iter().filter_map(move |group| group.bar(series)));
        let ticks = ticks(bars.map(Bar::top).fold(0.0, f64::max));
        let (end, right) = (ticks.last().copied().unwrap_or(1.0), width - RIGHT);
        let y = |value: f64| BOTTOM - (BOTTOM - TOP) * (value / end).clamp(0.0, 1.0);
        for tick in ticks {
            let (at, class) = (y(tick), if tick > 0.0 { "grid" } else { "axis" });
            let line = format!("<path class='{class}' d='M{LEFT:.1} {at:.1}H{right:.1}'/>\n");
            svg.push_str(
                &(line + &text("tick", LEFT - 8.0, at + 4.0, &number(tick, self.decimal))),
            );
        }
        let pitch = (right - LEFT) / self.groups.len().max(1) as f64;
        for (index, group) in self.groups.iter().enumerate() {
            let centre = LEFT + pitch * (index as f64 + 0.5);
            svg.push_str(&text("label", centre, BOTTOM + 20.0, &group.label));
            for series in 0..self.series.len() {
                let x = centre + SLOT * (series as f64 + 0.5 - self.series.len() as f64 / 2.0);
                let missing = || text("value", x, BOTTOM - 6.0, "–");
                svg.push_str(
                    &group.bar(series).map_or_else(missing, |bar| bar.to_svg(x, y, self.decimal)),
                );
            }
        }
        svg + "</svg>"
    }

    /// The chart's width in pixels: enough for all bars, the legend and the title, whose letters
    /// are a third larger.
    fn width(&self) -> f64 {
        let labels = self.groups.iter().map(|group| text_width(&group.label));
        let group = labels.fold(SLOT * self.series.len() as f64, f64::max) + 24.0;
        let legend: f64 = self.series.iter().map(|name| ENTRY + text_width(name)).sum();
        let plot = (group * self.groups.len() as f64).max(legend).max(260.0);
        (LEFT + plot.max(text_width(&self.title) * 4.0 / 3.0) + RIGHT).ceil()
    }
}

/// Four to six round values from 0 to at least `maximum`.
fn ticks(maximum: f64) -> Vec<f64> {
    // Beyond these limits, the arithmetic below would overflow or underflow.
    let maximum = if maximum > 0.0 { maximum.clamp(1e-300, 1e300) } else { 1.0 };
    let unit = 10f64.powf(maximum.log10().floor() - 1.0);
    // The smallest step with at most five intervals has more than two: the next smaller step is
    // at most 2.5 times smaller and has more than five intervals. Rounding could still give two.
    let steps = [2.0, 5.0, 10.0, 20.0].map(|factor: f64| factor * unit);
    let step = steps.into_iter().find(|step| maximum / step <= 5.0).unwrap_or(50.0 * unit);
    let intervals = (maximum / step).ceil().max(3.0) as u32;
    (0..=intervals).map(|index| f64::from(index) * step).collect()
}

/// A value with at most three significant digits.
fn number(value: f64, decimal: char) -> String {
    // Rust prints the shortest text of a number: after this rounding, three digits at most.
    let value: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    let plain = value == 0.0 || (1e-3..1e6).contains(&value.abs());
    let text = if plain { value.to_string() } else { format!("{value:e}") };
    localized(text, decimal)
}

/// Puts a language's decimal mark into a text whose only points are decimal ones.
#[must_use]
pub fn localized(text: String, decimal: char) -> String {
    if decimal == '.' { text } else { text.replace('.', &decimal.to_string()) }
}

/// A cautious estimate of a text's width in pixels, because the reader's font is not known.
fn text_width(text: &str) -> f64 {
    7.0 * text.chars().count() as f64
}

fn text(class: &str, x: f64, y: f64, content: &str) -> String {
    format!("<text class='{class}' x='{x:.1}' y='{y:.1}'>{}</text>\n", escape(content))
}

/// Escapes text for XML content or an attribute. Characters that XML forbids become spaces.
#[must_use]
pub fn escape(text: &str) -> String {
    let text = text.replace(|c: char| matches!(c, '\0'..=' ' | '\u{fffe}' | '\u{ffff}'), " ");
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(series: usize, bars: &[(usize, f64)]) -> String {
        let bar = |&(series, median): &(usize, f64)| Bar { series, median, low: 0.5, high: median };
        let group = Group { label: "<10 %".to_owned(), bars: bars.iter().map(bar).collect() };
        let series = vec!["\"a\" & 'b'".to_owned(); series];
        let (title, unit) = ("Title >".to_owned(), "m/s".to_owned());
        BarChart { title, unit, series, groups: vec![group], decimal: '.' }.to_svg()
    }

    fn counts(svg: &str) -> [usize; 3] {
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        ["<rect class='bar'", "class='whisker'", ">–</text>"].map(|what| svg.matches(what).count())
    }

    #[test]
    fn ticks_are_round_and_cover_the_maximum() {
        for maximum in [0.0, 1e-310, 0.3, 1.0, 7.2, 10.1, 20.1, 99.9, 1000.0, 2.5e8, 1e300] {
            let ticks = ticks(maximum);
            assert!((4..=6).contains(&ticks.len()) && ticks[0] == 0.0, "{maximum}: {ticks:?}");
            assert!(ticks[ticks.len() - 1] * (1.0 + 1e-9) >= maximum, "{maximum}: {ticks:?}");
            let step = format!("{:.9e}", ticks[1]);
            assert!(step.trim_start_matches(['1', '2', '5']).starts_with(".000000000e"), "{step}");
        }
    }

    #[test]
    fn numbers_and_text() {
        let numbers = [0.0, 9.996, 1234.5, 0.001234, 0.5, 2e7].map(|value| number(value, '.'));
        assert_eq!(numbers, ["0", "10", "1230", "0.00123", "0.5", "2e7"]);
        assert_eq!(number(0.5, ','), "0,5");
        let svg = svg(1, &[]);
        for escaped in ["Title &gt;", "&quot;a&quot; &amp; &#39;b&#39;", "&lt;10 %"] {
            assert!(svg.contains(&format!(">{escaped}</text>")), "{escaped}: {svg}");
        }
    }

    #[test]
    fn bars_and_gaps() {
        assert_eq!(counts(&svg(2, &[(0, 1.0), (1, 2.0)])), [2, 2, 0]);
        // Neither a bar without a series nor one without a median is drawn.
        assert_eq!(counts(&svg(3, &[(1, 2.0), (2, f64::NAN), (9, 1.0)])), [1, 1, 2]);
        assert_eq!(counts(&svg(2, &[(0, f64::INFINITY), (1, 1e308)])), [1, 1, 1]);
        assert_eq!(counts(&svg(2, &[(0, 0.0), (1, -1.0)])), [2, 2, 0]);
        let (title, unit) = (String::new(), String::new());
        let (series, groups, decimal) = (Vec::new(), Vec::new(), '.');
        let empty = BarChart { title, unit, series, groups, decimal };
        assert_eq!(counts(&empty.to_svg()), [0; 3]);
    }
}
