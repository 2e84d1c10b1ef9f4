// Interactive pictures from the data that lie compressed in the page, drawn by plotly.js, which lies beside them.
const inflate = async (id) => {
  const text = document.getElementById(id).content.textContent;
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
// Plotly takes tags in a text for markup; names are text.
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const NARROW = "(max-width: 640px)";
const isNarrow = () => matchMedia(NARROW).matches;
const axis = (title, more) => ({
  title: { text: title }, gridcolor: themed("--grid"), zeroline: false, automargin: true, exponentformat: "e", ...more,
});
const layout = (more) => ({
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 56, r: 12, t: 12, b: 48 },
  font: { family: themed("--plot"), size: 12, color: themed("--muted") }, hovermode: "closest",
  hoverlabel: { bgcolor: themed("--shade"), bordercolor: themed("--grid"), font: { color: themed("--ink") }, align: "left" },
  ...more,
});

// All curves of one kind are one line with gaps, so that a name in the legend stands for a pair of lines.
const lineOf = (name, style, runs, counts) => {
  const line = { x: [], y: [], text: [], customdata: [] };
  for (const run of runs) {
    const text = `${plain(run.optimizer)} ${plain(run.text)}<br>run ${run.id}`;
    line.x.push(...run.x, null);
    line.y.push(...run.y, null);
    for (const part of [line.text, line.customdata]) part.push(...Array(run.x.length + 1).fill(part === line.text ? text : run.id));
  }
  return {
    ...line, type: "scatter", mode: "lines", name: plain(name), legendgroup: name, showlegend: counts,
    line: { ...style, width: counts ? 2 : 1 }, opacity: counts ? 1 : 0.4,
    hovertemplate: "%{text}<br>step %{x}: %{y}<extra></extra>",
  };
};
const drawCurves = (item, styles) => {
  const names = [...new Set(item.runs.map((run) => run.optimizer))].sort();
  const lines = names.flatMap((name) => [false, true].map((counts) => {
    const runs = item.runs.filter((run) => run.optimizer === name && run.counts === counts);
    return lineOf(name, styles[name], runs, counts);
  }));
  return [lines, layout({
    height: 440, xaxis: axis("training steps"), yaxis: axis("validation loss", item.decades > 0.6 ? { type: "log", dtick: item.decades > 2 ? 1 : "D2", tickformat: "~g" } : {}),
    legend: { orientation: "h", y: -0.2, font: { color: themed("--ink") } },
  })];
};

// A phone has 40 to 60 pixels from axis to axis: two digits of 3.69e-12, and letters of which eight fit between.
const drawSearch = (item) => {
  const values = item.axes.at(-1).values;
  const margin = isNarrow() ? { l: 44, r: 64, t: 64, b: 20 } : { l: 60, r: 44, t: 44, b: 20 };
  const gap = (document.getElementById("explore").clientWidth - margin.l - margin.r) / (item.axes.length - 1);
  const brief = (text) => isNarrow() ? text.replace(/\d\.\d+(?=e)/, (mantissa) => +Number(mantissa).toPrecision(2)) : text;
  const dimensions = item.axes.map(({ label, values, ticks, texts }) => ({ label: plain(label), values, tickvals: ticks, ticktext: texts.map(brief) }));
  const font = { color: themed("--ink"), size: 12 };
  const tickfont = { ...font, size: Math.min(12, gap / 4.8) };
  const trace = {
    type: "parcoords", dimensions, labelangle: isNarrow() ? -25 : 0, labelfont: font, tickfont, rangefont: { ...font, size: 1, color: "rgba(0,0,0,0)" },
    line: { color: values, colorscale: [[0, "#009E73"], [0.5, "#E69F00"], [1, "#B3390B"]] },
    unselected: { line: { color: themed("--grid"), opacity: 0.6 } },
  };
  return [[trace], layout({ height: 360, margin })];
};

const drawBars = (item) => {
  const bars = item.bars.toReversed();
  const trace = {
    type: "bar", orientation: "h", y: bars.map((bar) => plain(bar.key)), x: bars.map((bar) => bar.importance),
    marker: { color: themed("--accent") },
    error_x: {
      type: "data", symmetric: false, color: themed("--ink"), thickness: 1.2, width: 3,
      array: bars.map((bar) => bar.high - bar.importance), arrayminus: bars.map((bar) => bar.importance - bar.low),
    },
    hovertemplate: "%{y}: %{x}<extra></extra>",
  };
  const look = { height: 90 + 34 * bars.length, xaxis: axis("growth of the squared error (1: the variance)"), yaxis: axis("") };
  return [[trace], layout(look)];
};

const showRun = (id) => {
  const cell = Array.from(document.querySelectorAll("#runs td")).find((one) => one.textContent === id);
  if (!cell) return;
  cell.closest("details").open = true;
  for (const row of document.querySelectorAll("tr.found")) row.classList.remove("found");
  cell.parentNode.classList.add("found");
  cell.scrollIntoView({ block: "center" });
};

const addPicture = (section, name, title, items, draw, styles) => {
  if (!items.length) return;
  const figure = document.createElement("figure");
  figure.id = `explore-${name}`;
  const [head, choice, plot, caption] = ["h3", "select", "div", "figcaption"].map((tag) => figure.appendChild(document.createElement(tag)));
  head.textContent = title;
  choice.ariaLabel = `${title} of`;
  choice.hidden = items.length < 2;
  choice.append(...items.map((item) => new Option(item.title)));
  section.append(figure);
  const show = async () => {
    const item = items[choice.selectedIndex];
    caption.textContent = item.note;
    await Plotly.newPlot(plot, ...draw(item, styles), { responsive: true, displayModeBar: false });
    plot.on("plotly_click", ({ points }) => points[0].customdata && showRun(points[0].customdata));
  };
  choice.addEventListener("change", show);
  for (const query of ["(prefers-color-scheme: dark)", NARROW]) matchMedia(query).addEventListener("change", show);
  return show();
};

const explore = async (section) => {
  const data = JSON.parse(await inflate("explore-data"));
  const script = document.createElement("script");
  script.textContent = await inflate("explore-library");
  document.head.append(script);
  await addPicture(section, "curves", "Every run's validation loss", data.curves, drawCurves, data.styles);
  await addPicture(section, "searches", "Trials of a search", data.searches, drawSearch);
  await addPicture(section, "importances", "Importance of hyperparameters", data.importances, drawBars);
  document.getElementById("explore-state").remove();
};
const place = document.getElementById("explore");
if (place) explore(place);
