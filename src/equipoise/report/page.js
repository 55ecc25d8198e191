(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  // Charts name the page's colours; the values differ between light and dark.
  const painted = (value, style) => {
    if (typeof value === "string" && value.startsWith("var(")) return style.getPropertyValue(value.slice(4, -1)).trim();
    if (Array.isArray(value)) return value.map((each) => painted(each, style));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, painted(each, style)]));
    return value;
  };
  const look = {
    font: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif",
    view: { stroke: null },
    axis: {
      labelColor: "var(--soft)", titleColor: "var(--soft)", titleFontWeight: 400, labelFontSize: 11, titleFontSize: 12,
      gridColor: "var(--line)", gridOpacity: 0.55, domainColor: "var(--line)", tickColor: "var(--line)", labelLimit: 160, titlePadding: 8,
    },
    axisY: { labelColor: "var(--ink)" },
  };
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const config = painted(look, style);
    return Promise.all([...document.querySelectorAll("[data-chart]")].map((place) => {
      const spec = { ...painted(charts[place.dataset.chart], style), config, autosize: { type: "fit-x", contains: "padding" } };
      return vegaEmbed(place, spec, { actions: false, renderer: "svg", tooltip: { theme: dark ? "dark" : "light" } });
    })).then(() => { document.documentElement.dataset.drawn = dark ? "dark" : "light"; });
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
