/** The growth plot: bone age against chronological age, over the reference's SD bands. */
import { drawing, element } from "./dom.js";
import { ageText, monthsText, numberText, signedText } from "./format.js";
import { standardTitle } from "./sheet.js";
import { inEachLanguage, say } from "./words.js";

const SIZE = { wide: 400, high: 330, left: 46, right: 12, top: 10, bottom: 42 };
const MARGIN_MONTHS = 30;
const YEAR = 12;

/** A growth plot; `update` draws it anew for a chronological age and the points to show. */
export class GrowthPlot {
  constructor({ reference, needsAge = "plot_needs_age", signal }) {
    Object.assign(this, { reference, needsAge, state: { age: null, points: [] } });
    this.node = element("section", { class: "card growth", "aria-labelledby": "plot-title" });
    inEachLanguage(() => this.draw(), signal);
  }

  /** Show points `{kind: "model" | "sheet", months, interval, standard, changed}` at a chronological age. */
  update(state) {
    this.state = state;
    this.draw();
  }

  draw() {
    const { age } = this.state;
    const points = this.state.points.filter(({ months }) => Number.isFinite(months));
    const title = element("h2", { id: "plot-title" }, say("plot"));
    if (age === null) {
      this.node.replaceChildren(title, element("p", { class: "soft" }, say(this.needsAge)));
      return;
    }
    const axes = new Axes([age, ...points.flatMap(({ months, interval }) => [months, ...(interval ?? [])])]);
    const label = [say("plot_label"), ...points.map((point) => `${pointName(point)}: ${ageText(point.months)}`)].join(". ");
    const svg = drawing("svg", { class: "plot", viewBox: `0 0 ${SIZE.wide} ${SIZE.high}`, role: "img", "aria-label": label },
      this.bands(axes), axes.draw(), points.map((point) => marker(point, axes, age)));
    this.node.replaceChildren(title, svg, this.legend(points, age));
  }

  bands(axes) {
    const { ages_months: ages, sd_months: sds } = this.reference;
    const inside = ages.map((age, place) => [age, sds[place]]);
    const outline = (times) => {
      const side = (sign) => inside.map(([age, sd]) => [age, age + sign * times * sd]);
      return [...side(1), ...side(-1).reverse()].map(([x, y]) => axes.place(x, y).join()).join(" ");
    };
    const clip = drawing("clipPath", { id: "plot-area" }, drawing("rect", axes.area()));
    const [first, last] = [ages[0], ages.at(-1)];
    const middle = [axes.place(first, first), axes.place(last, last)].map((point) => point.join()).join(" ");
    return [clip, drawing("g", { "clip-path": "url(#plot-area)" },
      drawing("polygon", { class: "band two", points: outline(2) }),
      drawing("polygon", { class: "band one", points: outline(1) }),
      drawing("polyline", { class: "middle", points: middle }))];
  }

  legend(points, age) {
    const { ages_months: ages, reference } = this.reference;
    const row = (point) => element("li", {}, drawing("svg", { class: "key", viewBox: "-8 -8 16 16", "aria-hidden": "true" }, shape(point, 0, 0)),
      element("span", {}, `${pointName(point)}: `, element("b", {}, ageText(point.months)), ` (${monthsText(point.months)})`,
        Number.isFinite(point.sd) ? `, ${signedText(point.sd)} SD` : ""));
    const outside = age < ages[0] || age > ages.at(-1);
    const years = (months) => numberText(months / YEAR, 1);
    return element("div", { class: "legend" }, element("ul", {}, points.map(row)),
      element("p", { class: "soft" }, say("plot_bands", { reference })),
      outside ? element("p", { class: "notice" }, say("plot_outside", { low: years(ages[0]), high: years(ages.at(-1)) })) : "");
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
    const { x: left, y: top, width, height } = this.area();
    return [left + share(x) * width, top + (1 - share(y)) * height].map((value) => Number(value.toFixed(2)));
  }

  area() {
    return { x: SIZE.left, y: SIZE.top, width: SIZE.wide - SIZE.left - SIZE.right, height: SIZE.high - SIZE.top - SIZE.bottom };
  }

  draw() {
    const { x, y, width, height } = this.area();
    const step = this.high - this.low > 9 ? 2 : 1;
    const ticks = [];
    for (let year = this.low; year <= this.high; year += step) {
      const [across, up] = this.place(year * YEAR, year * YEAR);
      ticks.push(
        drawing("line", { class: "grid", x1: across, x2: across, y1: y, y2: y + height }),
        drawing("line", { class: "grid", x1: x, x2: x + width, y1: up, y2: up }),
        drawing("text", { class: "tick", x: across, y: y + height + 16, "text-anchor": "middle" }, year),
        drawing("text", { class: "tick", x: x - 7, y: up + 4, "text-anchor": "end" }, year),
      );
    }
    const below = drawing("text", { class: "axis", x: x + width / 2, y: SIZE.high - 6, "text-anchor": "middle" }, say("plot_x"));
    const beside = drawing("text", { class: "axis", transform: `translate(13 ${y + height / 2}) rotate(-90)`, "text-anchor": "middle" }, say("plot_y"));
    return [...ticks, below, beside];
  }
}

function marker(point, axes, age) {
  const [x, y] = axes.place(age, point.months);
  const parts = [];
  if (point.interval) {
    const [low, high] = point.interval.map((months) => axes.place(age, months)[1]);
    const cap = (at) => drawing("line", { class: "bar", x1: x - 5, x2: x + 5, y1: at, y2: at });
    parts.push(drawing("line", { class: "bar", x1: x, x2: x, y1: low, y2: high }), cap(low), cap(high));
  }
  return drawing("g", { class: "marker", "data-kind": point.kind, "data-months": point.months.toFixed(2) }, parts, shape(point, x, y));
}

function shape({ kind, changed }, x, y) {
  if (kind === "model") return drawing("circle", { class: "model", cx: x, cy: y, r: 5.5 });
  const corners = [[0, -7], [7, 0], [0, 7], [-7, 0]].map(([dx, dy]) => `${x + dx},${y + dy}`).join(" ");
  return drawing("polygon", { class: changed ? "reader" : "reader unread", points: corners });
}

function pointName({ kind, standard, changed, empty }) {
  if (kind === "model") return say("plot_model");
  return say(changed || empty ? "plot_reader" : "plot_sheet", { standard: standardTitle(standard) });
}
