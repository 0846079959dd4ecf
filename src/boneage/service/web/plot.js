/** The growth plot: bone age against chronological age, over the reference's SD bands. */
import { drawing, element } from "./dom.js";
import { ageText, monthsText, numberText, signedText } from "./format.js";
import { standardTitle } from "./sheet.js";
import { inEachLanguage, say } from "./words.js";

const WIDE = 400;
const HIGH = 330;
const AREA = { x: 46, y: 10, width: 342, height: 278 };
const MARGIN_MONTHS = 30;
const MOST_TICKS = 9;
const YEAR = 12;

/** A growth plot; `update` draws it anew for a chronological age and the points to show. */
export class GrowthPlot {
  constructor({ reference, needsAge = "plot_needs_age", signal }) {
    Object.assign(this, { reference, needsAge, state: { age: null, points: [] } });
    this.node = element("section.card.growth", { "aria-labelledby": "plot-title" });
    inEachLanguage(() => this.draw(), signal);
  }

  /** Show points `{kind: "model" | "sheet", months, interval, sd, standard, changed}` at an age in months. */
  update(state) {
    this.state = state;
    this.draw();
  }

  draw() {
    const { age } = this.state;
    const title = element("h2", { id: "plot-title" }, say("plot"));
    if (age === null) {
      this.node.replaceChildren(title, element("p.soft", say(this.needsAge)));
      return;
    }
    const points = this.state.points.filter(({ months }) => Number.isFinite(months));
    const axes = new Axes([age, ...points.flatMap(({ months, interval }) => [months, ...(interval ?? [])])]);
    const told = points.map((point) => `${pointName(point)}: ${ageText(point.months)}`);
    const label = [say("plot_label"), ...told].join(". ");
    const markers = points.map((point) => marker(point, axes, age));
    const attributes = { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": label };
    const svg = drawing("svg.plot", attributes, this.bands(axes), axes.draw(), markers);
    this.node.replaceChildren(title, svg, this.legend(points, age));
  }

  bands(axes) {
    const { ages_months: ages, sd_months: sds } = this.reference;
    const line = (sign) => ages.map((age, place) => axes.place(age, age + sign * sds[place]).join());
    const outline = (times) => [...line(times), ...line(-times).reverse()].join(" ");
    return [
      drawing("clipPath", { id: "plot-area" }, drawing("rect", AREA)),
      drawing("g", { "clip-path": "url(#plot-area)" },
        drawing("polygon.band.two", { points: outline(2) }),
        drawing("polygon.band.one", { points: outline(1) }),
        drawing("polyline.middle", { points: line(0).join(" ") })),
    ];
  }

  legend(points, age) {
    const { ages_months: ages, reference } = this.reference;
    const [low, high] = [ages[0], ages.at(-1)].map((months) => numberText(months / YEAR, 1));
    const rows = points.map((point) => {
      const key = drawing("svg.key", { viewBox: "-10 -10 20 20", "aria-hidden": "true" }, shape(point, 0, 0));
      const sd = Number.isFinite(point.sd) ? `, ${signedText(point.sd)} SD` : "";
      const age = [element("b", ageText(point.months)), ` (${monthsText(point.months)})${sd}`];
      return element("li", key, element("span", `${pointName(point)}: `, ...age));
    });
    const outside = age < ages[0] || age > ages.at(-1);
    return element("div.legend",
      element("ul", rows),
      element("p.soft", say("plot_bands", { reference })),
      outside && element("p.notice", say("plot_outside", { low, high })));
  }
}

// Both axes show the same ages, so that the line of equal ages is the diagonal.
class Axes {
  constructor(values) {
    this.low = Math.max(0, Math.floor((Math.min(...values) - MARGIN_MONTHS) / YEAR));
    this.high = Math.ceil((Math.max(...values) + MARGIN_MONTHS) / YEAR);
  }

  place(x, y) {
    const share = (months) => (months / YEAR - this.low) / (this.high - this.low);
    const point = [AREA.x + share(x) * AREA.width, AREA.y + (1 - share(y)) * AREA.height];
    return point.map((value) => Number(value.toFixed(2)));
  }

  draw() {
    const [right, bottom] = [AREA.x + AREA.width, AREA.y + AREA.height];
    const step = this.high - this.low > MOST_TICKS ? 2 : 1;
    const ticks = [];
    for (let year = this.low; year <= this.high; year += step) {
      const [across, up] = this.place(year * YEAR, year * YEAR);
      ticks.push(
        drawing("line.grid", { x1: across, x2: across, y1: AREA.y, y2: bottom }),
        drawing("line.grid", { x1: AREA.x, x2: right, y1: up, y2: up }),
        drawing("text", { x: across, y: bottom + 16, "text-anchor": "middle" }, year),
        drawing("text", { x: AREA.x - 7, y: up + 4, "text-anchor": "end" }, year),
      );
    }
    const title = (key, transform) => drawing("text.axis", { transform, "text-anchor": "middle" }, say(key));
    const [middle, half] = [AREA.x + AREA.width / 2, AREA.y + AREA.height / 2];
    const below = title("plot_x", `translate(${middle} ${HIGH - 6})`);
    return [...ticks, below, title("plot_y", `translate(13 ${half}) rotate(-90)`)];
  }
}

function marker(point, axes, age) {
  const [x, y] = axes.place(age, point.months);
  const bars = [];
  if (point.interval) {
    const [low, high] = point.interval.map((months) => axes.place(age, months)[1]);
    const line = (x1, y1, x2, y2) => drawing("line.bar", { x1, y1, x2, y2 });
    bars.push(line(x, low, x, high), line(x - 5, low, x + 5, low), line(x - 5, high, x + 5, high));
  }
  const attributes = { "data-kind": point.kind, "data-months": point.months.toFixed(2) };
  return drawing("g.marker", attributes, bars, shape(point, x, y));
}

function shape({ kind, changed }, x, y) {
  if (kind === "model") return drawing("circle.model", { cx: x, cy: y, r: 4.5 });
  // Open and larger than the circle, so that neither hides the other where they meet.
  const corners = [[0, -8], [8, 0], [0, 8], [-8, 0]].map(([dx, dy]) => `${x + dx},${y + dy}`);
  return drawing(changed ? "polygon.reader.changed" : "polygon.reader", { points: corners.join(" ") });
}

function pointName({ kind, standard, changed }) {
  if (kind === "model") return say("plot_model");
  return say(changed ? "plot_reader" : "plot_sheet", { standard: standardTitle(standard) });
}
