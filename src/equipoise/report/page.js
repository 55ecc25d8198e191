(() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  // Charts name the page's colours; the values differ between light and dark.
  const painted = (value, style) => {
    if (typeof value === "string" && value.startsWith("var(")) return style.getPropertyValue(value.slice(4, -1)).trim();
    if (Array.isArray(value)) return value.map((each) => painted(each, style));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, painted(each, style)]));
    return value;
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const draw = (places) => {
    const style = getComputedStyle(document.documentElement);
    const config = painted(data.look, style);
    return Promise.all(places.map((place) => {
      const spec = { ...painted(data.charts[place.dataset.chart], style), config, autosize: { type: "fit-x", contains: "padding" } };
      return vegaEmbed(place, spec, { actions: false, renderer: "svg", tooltip: { theme: dark.matches ? "dark" : "light" } });
    })).then(() => { document.documentElement.dataset.drawn = dark.matches ? "dark" : "light"; });
  };
  // What is folded away has no width yet: it is drawn when it is opened.
  const open = (root) => [...root.querySelectorAll("[data-chart]")].filter((place) => !place.closest("details:not([open])"));
  dark.addEventListener("change", () => draw(open(document)));
  document.addEventListener("toggle", (event) => {
    if (event.target.open) draw(open(event.target).filter((place) => !place.firstChild));
  }, true);
  draw(open(document));

  // The whole name of a label that was shortened.
  document.addEventListener("mouseover", ({ target }) => {
    const label = target.closest?.(".role-axis-label text");
    const name = label?.__data__?.datum?.value;
    if (typeof name !== "string" || label.querySelector("title") || label.textContent === name) return;
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = name;
    label.append(title);
  });

  const number = (text) => {
    const found = /[-−+]?\d[\d.]*(e[-+]?\d+)?/.exec(text);
    return found ? Number(found[0].replace("−", "-")) - (text.startsWith("<") ? 1e-9 : 0) : NaN;
  };
  const text = (row, column) => row.cells[column].textContent.trim();
  const sort = (table, column) => {
    const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
    const counts = column > 0 && rows.some((row) => /^[-−+<]?\s?\d/.test(text(row, column)));
    const ways = counts ? ["descending", "ascending"] : ["ascending", "descending"];
    const way = ways[ways.indexOf(heads[column].getAttribute("aria-sort")) + 1];
    const sign = way === "descending" ? -1 : 1;
    rows.sort((one, other) => {
      if (!way) return one.dataset.row - other.dataset.row;
      if (!counts) return sign * text(one, column).localeCompare(text(other, column));
      const [a, b] = [number(text(one, column)), number(text(other, column))];
      return Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : sign * (a - b);
    });
    body.append(...rows);
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    if (way) heads[column].setAttribute("aria-sort", way);
  };
  const copied = async (words) => {
    try {
      await navigator.clipboard.writeText(words);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: words });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  for (const table of document.querySelectorAll("table[data-table]")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "sort" });
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, column));
      head.append(button);
    });
    const bar = Object.assign(document.createElement("p"), { className: "copy", textContent: "copy as " });
    bar.setAttribute("aria-live", "polite");
    for (const [form, parts] of Object.entries(data.tables[table.dataset.table])) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: form });
      button.addEventListener("click", async () => {
        await copied(parts.head + [...table.tBodies[0].rows].map((row) => parts.rows[row.dataset.row]).join("") + parts.foot);
        button.textContent = "copied";
        setTimeout(() => { button.textContent = form; }, 1500);
      });
      bar.append(button);
    }
    table.parentElement.after(bar);
  }
})();
